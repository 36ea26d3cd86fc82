"""Alarms for the operator about bills of the provider."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ..behaviour import Alarm
from ..pricing import ModelPrice, Usage
from .usage import WEB_SEARCHES

_NO_RATE: Final = "model_provider_bills_what_has_no_rate"
_NOT_ASKED: Final = "model_provider_bills_what_was_not_asked_for"


def billing_alarms(
    price: ModelPrice, usage: Usage | None, asked: Collection[str] = (), **ids: str
) -> tuple[Alarm, ...]:
    """Return alarms about options billed at special rates, unless the request asked for them and we have a multiplier.

    `asked` are the names of the options that the request asked for. An option without a price of ours is charged at the
    plain rates, and the rest is the operator's loss.
    """
    found = () if usage is None else usage.billed_as
    priced = {*price.multipliers, *(() if price.web_search_per_1000 is None else (WEB_SEARCHES,))}
    unpriced = [name for name in found if name not in priced]
    unasked = [name for name in found if name in priced and name not in asked]
    told = ((_NO_RATE, unpriced), (_NOT_ASKED, unasked))
    return tuple(
        Alarm(event, {**ids, "model": price.model, "what": ", ".join(names)}) for event, names in told if names
    )

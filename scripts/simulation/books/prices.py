"""Prices as they must be, worked out a second time, and the names of one call's attempts."""

from __future__ import annotations

from typing import Final

# At the price of a run, a dollar for a million tokens is a millisatoshi for each.
_INPUT_MSAT: Final = 2
_OUTPUT_MSAT: Final = 10
_INFRA_MSAT: Final = 500
_MARGIN: Final = (7, 5)

Tokens = tuple[int, int]
"""Tokens read and written."""


def price_msat(judged: list[Tokens], worked: Tokens | None) -> int:
    """Return the price of these calls in msat, with the margin, and with infrastructure if work was done."""
    calls = [*judged, *([] if worked is None else [worked])]
    cost = sum(read * _INPUT_MSAT + written * _OUTPUT_MSAT for read, written in calls)
    over, under = _MARGIN
    return -(-(cost + (0 if worked is None else _INFRA_MSAT)) * over // under)


def same_call(name: str) -> list[str]:
    """Return the names of a call's attempts, up to this one.

    An attempt that joins an earlier one is answered under the hold of the earlier one. The part behind the last dot is
    the number of an attempt, or a credential's tag.
    """
    call, _, number = name.rpartition(".")
    return [f"{call}.{earlier}" for earlier in range(int(number) + 1)] if number.isdecimal() else [name]

"""Destinations of refunds in bodies: the check of what a client names, before anything is asked of it."""

from __future__ import annotations

from typing import Final

from ...actors.domain.payments.destinations import URL_LENGTH_MAX, UnfitDestinationError, read_destination
from ...config.webhook_policy import TargetError, WebhookTargets
from ..response import errors
from ..state import AppState

_PATH: Final = "refundTo"


class RefundDestinations:
    """Reader of the destinations that clients name."""

    def __init__(self, state: AppState) -> None:
        self._targets = WebhookTargets(state.settings.webhook_allow)

    def named(self, given: str | None) -> str | None:
        """Return the destination in its normal form. Raises `RefusedError` for one to which nothing can be paid.

        Its host's name is resolved and checked at each try, as its address may change.
        """
        if given is None:
            return None
        try:
            destination = read_destination(given)
            self._targets.target(destination.url, length_max=URL_LENGTH_MAX)
        except UnfitDestinationError as error:
            raise errors.invalid(_PATH, error.told) from None
        except TargetError as error:
            raise errors.invalid(_PATH, f"The destination can't be asked: {error}") from None
        return destination.text

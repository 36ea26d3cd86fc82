"""Payouts at the node: an order is sent once, and looked up until the node's word on it is final."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from .domain.intents import LookUpPayout, SendPayout
from .domain.paying_out import verdict
from .domain.payouts import PayoutReport
from .ports import Lightning, PortError, TransientError

_BACKOFF_FIRST_S: Final = 1.0
_BACKOFF_MAX_S: Final = 60.0
_log = structlog.get_logger(__name__)


class PayoutCalls:
    """Carries out `SendPayout` and `LookUpPayout`."""

    def __init__(
        self, lightning: Lightning, pause: Callable[[float], Awaitable[None]], now_ms: Callable[[], int]
    ) -> None:
        self._lightning = lightning
        self._pause = pause
        self._now_ms = now_ms

    async def send(self, intent: SendPayout) -> PayoutReport:
        """Order the payment. Raises `PortError` whenever it may have been made."""
        if self._now_ms() >= intent.send_before_ms:
            # This process was held up: another host may own the actor by now, and look the payment up already.
            raise TransientError("too late to send a payout")
        return await self._lightning.pay_out(intent.target, intent.actor_id)

    async def look_up(self, intent: LookUpPayout) -> PayoutReport:
        """Ask until the node's word is final. Whatever else it says, or does not say, leaves the outcome unknown."""
        delay_s = _BACKOFF_FIRST_S
        while True:
            asked_at_ms = self._now_ms()
            try:
                report = await self._lightning.payout(intent.target, intent.actor_id)
            except PortError as error:
                _log.warning("look-up of a payout failed, trying again", error=str(error), delay_s=delay_s)
            else:
                if (final := verdict(report, intent.failure_final_at_ms, asked_at_ms)) is not None:
                    return final
            await self._pause(delay_s)
            delay_s = min(delay_s * 2, _BACKOFF_MAX_S)

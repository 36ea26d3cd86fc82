"""Payouts at the node: an order is sent once, and looked up until the node's word on it is final."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ..clock import system_awake_ms
from ..domain.backoff import Backoff
from ..domain.payments.intents import LookUpPayout, SendPayout
from ..domain.payments.payout_flow import PATIENCE_MS, verdict
from ..domain.payments.payouts import LONG_MS, PayoutRefusal, PayoutReport, PayoutStatus
from ..ports import Lightning, LongPayout, PermanentError, PortError, TransientError

_BACKOFF_FIRST_S: Final = 1.0
_BACKOFF_MAX_S: Final = 60.0
_log = structlog.get_logger(__name__)


class PayoutCalls:
    """Runner of `SendPayout` and `LookUpPayout`."""

    def __init__(
        self,
        lightning: Lightning,
        pause: Callable[[float], Awaitable[None]],
        now_ms: Callable[[], int],
        refused: Callable[[str], Awaitable[None]] | None = None,
        lasts: Callable[[LongPayout], Awaitable[None]] | None = None,
        uptime_ms: Callable[[], int] = system_awake_ms,
    ) -> None:
        """`refused` counts payouts that the node would not even try, by reason; it raises `PortError`.

        `lasts` notes a payout that has been under way for long; it raises `PortError`.
        """
        self._lightning = lightning
        self._refused = refused
        self._lasts = lasts
        self._pause = pause
        self._now_ms = now_ms
        self._uptime_ms = uptime_ms
        self._failed_at_ms: dict[str, int] = {}

    async def send(self, intent: SendPayout) -> PayoutReport:
        """Order the payment. Raises `PortError` whenever it may have been made."""
        if self._now_ms() >= intent.send_before_ms:
            # This process was held up: another host may own the actor by now, and look the payment up already.
            raise TransientError("too late to send a payout")
        report = await self._lightning.pay_out(intent.target, intent.actor_id, intent.fee_limit_msat)
        if report.refusal is not None:
            hint = "the refund stays owed; `satmeter check` says what is wrong with keys and wallet"
            _log.error("payout_refused", reason=report.refusal.value, **_described(intent), hint=hint)
            await self._count(report.refusal.value)
        else:
            _tell(report, intent)
        if report.status is PayoutStatus.FAILED and report.refusal is not PayoutRefusal.KEY:
            self._failed_at_ms[intent.target.payment_hash] = self._now_ms()
        return report

    async def _count(self, reason: str) -> None:
        if self._refused is None:
            return
        try:
            await self._refused(reason)
        except PortError as error:
            _log.warning("refusal_not_counted", reason=reason, error=str(error))

    async def look_up(self, intent: LookUpPayout) -> PayoutReport:
        """Ask until the node's word is final. Any other word, or none, leaves the outcome unknown.

        The patience passes by a clock that is never set, from the beginning of this look-up on. The journal's time is
        one of a wall clock that may have been set since, or of another machine: believed, it would make "failed" final
        while the node may still pay, or leave the refund owed for hours. Without patience is what this process's own
        call has just called failed.
        """
        backoff, told = Backoff(_BACKOFF_FIRST_S, _BACKOFF_MAX_S), False
        final_at_ms = intent.failure_final_at_ms
        failed_at_ms = self._failed_at_ms.pop(intent.target.payment_hash, None)
        patient = failed_at_ms is None or final_at_ms - failed_at_ms >= PATIENCE_MS
        before_ms = final_at_ms - (PATIENCE_MS if patient else 0) - self._uptime_ms()
        while True:
            await self._note_if_long(intent)
            delay_s, asked_at_ms = backoff.next(), before_ms + self._uptime_ms()
            try:
                report = await self._lightning.payout(intent.target, intent.actor_id)
                final = verdict(report, intent.failure_final_at_ms, asked_at_ms)
                if final is not None and (final.status is not PayoutStatus.ABSENT or await self._is_our_wallet(intent)):
                    _tell(final, intent)
                    return final
            except PermanentError as error:
                # Only the operator can mend it. It is logged once as an error, and then at each attempt as a warning.
                say, told = (_log.warning if told else _log.error), True
                say("payout_look_up_refused", error=str(error), delay_s=delay_s, **_described(intent))
            except PortError as error:
                _log.warning("payout_look_up_failed", error=str(error), delay_s=delay_s, **_described(intent))
            await self._pause(delay_s)

    async def _note_if_long(self, intent: LookUpPayout) -> None:
        """Note a payout for the operator, which the node may leave pending for ever."""
        if self._lasts is None or self._now_ms() - intent.started_at_ms < LONG_MS:
            return
        target = intent.target
        payout = LongPayout(intent.actor_id, target.payment_hash, target.amount_msat.value, intent.started_at_ms)
        try:
            await self._lasts(payout)
        except PortError as error:
            _log.warning("long_payout_not_noted", error=str(error), **_described(intent))

    async def _is_our_wallet(self, intent: LookUpPayout) -> bool:
        """Return True if the wallet knows all that it received, so that a missing payment means something.

        Raises `PermanentError` otherwise: it is another wallet, or was restored from an earlier time.
        """
        for received_hash in intent.received_hashes:
            if not await self._lightning.received(received_hash):
                raise PermanentError("the wallet does not know a deposit that the refund is of: it is another wallet")
        return True


def _tell(report: PayoutReport, intent: SendPayout | LookUpPayout) -> None:
    """Log a final outcome: money that leaves is worth a line, as a client asks for it."""
    if report.status is PayoutStatus.PAID:
        _log.info("payout_paid", fee_msat=report.fee_msat.value, **_described(intent))
    elif report.status is not PayoutStatus.PENDING:
        _log.warning("payout_failed", **_described(intent))


def _described(intent: SendPayout | LookUpPayout) -> dict[str, str | int]:
    return {
        "actor_id": intent.actor_id,
        "payment_hash": intent.target.payment_hash,
        "amount_msat": intent.target.amount_msat.value,
    }

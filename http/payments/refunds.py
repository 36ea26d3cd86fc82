"""Refunds: the check of the client's invoice, and the wait for the outcome of its payout."""

from __future__ import annotations

import asyncio
from typing import Final

from ...actors.domain.behaviour import Command
from ...actors.domain.errors import RETRY_ACTION, Code, Refusal, RefusedError, RetryAction
from ...actors.domain.money import MSAT_PER_SAT
from ...actors.domain.payments.bolt11 import read_invoice
from ...actors.domain.payments.payment_texts import invoice_text, why_no_invoice
from ...actors.domain.payments.payouts import PayoutTarget, refund_pending
from ...actors.messages import ReplyT
from ..response import errors
from ..state import AppState

# A Lightning payment mostly takes seconds, and clients don't wait much longer. The payout goes on after the answer.
PATIENCE_S: Final = 8.0
# The payment of an invoice that is about to expire would only fail.
_VALID_MS: Final = 30_000
_PATH: Final = "paymentRequest"


class Refunds:
    """Payouts of debts to the invoices of clients."""

    def __init__(self, state: AppState) -> None:
        self._state = state

    def target(self, payment_request: str) -> PayoutTarget:
        """Decode the client's invoice. Raises `RefusedError` for one that can't be paid, or if none can."""
        if not self._state.wallet.can_pay:
            raise RefusedError(_impossible(self._state.wallet.pays_with))
        text = invoice_text(payment_request)
        try:
            invoice = read_invoice(text)
        except ValueError:
            raise errors.invalid(_PATH, why_no_invoice(text)) from None
        if invoice.expires_at_ms - self._state.now_ms() < _VALID_MS:
            raise errors.invalid(_PATH, "The invoice has expired, or will within 30 s")
        if invoice.amount_msat.value % MSAT_PER_SAT:
            raise errors.invalid(_PATH, "The invoice must be over whole sats")
        return PayoutTarget(invoice.payment_request, invoice.payment_hash, invoice.amount_msat)

    async def carry_out(self, actor_id: str, command: Command[ReplyT]) -> ReplyT:
        """Return the actor's answer once the payout has ended. Raises `RefusedError` (425) when that takes long."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._state.router.call(actor_id, command)
        except TimeoutError:
            raise RefusedError(refund_pending()) from None


def _impossible(missing: str | None) -> Refusal:
    return Refusal(
        Code.UNAVAILABLE,
        f"This server can't pay anything out: what is owed stays owed. Its operator must set {missing}.",
        {RETRY_ACTION: RetryAction.ASK_A_PERSON.value},
        retry_after_s=3_600,
    )

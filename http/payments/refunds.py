"""Refunds: the client's invoice, or one that its destination makes, and the wait for the outcome of the payout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog
from msgspec.structs import replace

from ...actors.domain.behaviour import Command
from ...actors.domain.errors import RETRY_ACTION, Code, Refusal, RefusedError, RetryAction
from ...actors.domain.money import MSAT_PER_SAT, Msat
from ...actors.domain.payments.bolt11 import LEFT_LEAST_MS, read_invoice
from ...actors.domain.payments.destinations import (
    Destination,
    DestinationFault,
    UnfitDestinationError,
    is_destination,
    read_destination,
)
from ...actors.domain.payments.payment_texts import invoice_text, why_no_invoice
from ...actors.domain.payments.payout_plan import PayoutPlan
from ...actors.domain.payments.payouts import PayoutTarget, refund_pending
from ...actors.messages import ReplyT
from ...actors.ports import DestinationError, PortError, TransientError
from ..response import errors
from ..state import AppState

# A Lightning payment mostly takes seconds, and clients don't wait much longer. The payout goes on after the answer.
PATIENCE_S: Final = 8.0
_ASKS_WITHIN_S: Final = 2.0
# Anybody may send invoices here, and the node has other questions to answer.
_OWN_QUESTIONS_AT_ONCE: Final = 4
_PATH: Final = "paymentRequest"
_AMOUNT: Final = "amountSats"
# Each question goes to a stranger's server, and costs its client nothing.
_QUESTIONS_MAX: Final = 20
_QUESTIONS_S: Final = 600
_UNREACHABLE_RETRY_S: Final = 5
_log = structlog.get_logger(__name__)
_UNREACHABLE: Final = Refusal(
    Code.UNAVAILABLE,
    "The destination's server can't be reached just now, and nothing was paid. Look at the address, or try again in "
    f"{_UNREACHABLE_RETRY_S} s.",
    retry_after_s=_UNREACHABLE_RETRY_S,
)


class PayoutOrder(NamedTuple):
    """A client's order: an invoice, or a destination with the sum for it."""

    payment_request: str
    amount_sats: int | None = None


class Refunds:
    """Payouts of debts to the invoices and destinations of clients."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._asked = asyncio.Semaphore(_OWN_QUESTIONS_AT_ONCE)

    async def pay(
        self,
        actor_id: str,
        order: PayoutOrder,
        plan: Callable[[Msat | None], Command[ReplyT | PayoutPlan]],
        pay: Callable[[PayoutTarget | None], Command[ReplyT]],
    ) -> ReplyT:
        """Pay to the invoice or destination of the order, and return the actor's answer.

        `plan` makes the command that asks for the plan of a payout to a destination, `pay` the one that pays. Raises
        `RefusedError` for what can't be paid to, and (425) when the payout takes long.
        """
        self.refuse_without_payouts()
        if not is_destination(order.payment_request):
            return await self.carry_out(actor_id, pay(await self.target(order)))
        try:
            destination = read_destination(order.payment_request)
        except UnfitDestinationError as error:
            raise _unfit(error.fault, error.told) from None
        asked = None if order.amount_sats is None else Msat.from_sats(order.amount_sats)
        planned = await self.carry_out(actor_id, plan(asked))
        if not isinstance(planned, PayoutPlan):
            return planned
        target = await self._resolved(actor_id, destination, planned) if planned.amount_msat else None
        return await self.carry_out(actor_id, pay(target))

    def refuse_without_payouts(self) -> None:
        """Raise `RefusedError` if this server can't pay anything out."""
        if not self._state.wallet.can_pay:
            raise RefusedError(_impossible(self._state.wallet.pays_with))

    async def target(self, order: PayoutOrder) -> PayoutTarget:
        """Decode the client's invoice, and ask the node whether it is its own, which takes no reserve.

        Raises `RefusedError` for one that can't be paid.
        """
        text = invoice_text(order.payment_request)
        try:
            invoice = read_invoice(text)
        except ValueError:
            raise errors.invalid(_PATH, why_no_invoice(text)) from None
        if invoice.expires_at_ms - self._state.now_ms() < LEFT_LEAST_MS:
            raise errors.invalid(_PATH, "The invoice has expired, or will within 30 s")
        if invoice.amount_msat.value % MSAT_PER_SAT:
            raise errors.invalid(_PATH, "The invoice must be over whole sats")
        if order.amount_sats not in (None, invoice.amount_msat.whole_sats):
            raise errors.invalid(_AMOUNT, f"The invoice is over {invoice.amount_msat.whole_sats} sats")
        target = PayoutTarget(invoice.payment_request, invoice.payment_hash, invoice.amount_msat)
        return replace(target, internal=await self._is_own(target))

    async def _is_own(self, target: PayoutTarget) -> bool:
        """Return the node's answer, or False without one: then the payout takes the usual reserve."""
        if self._asked.locked():
            return False
        try:
            async with self._asked, asyncio.timeout(_ASKS_WITHIN_S):
                return await self._state.is_own_invoice(target)
        except (PortError, TimeoutError) as error:
            _log.warning("invoice_not_asked_about", payment_hash=target.payment_hash, error_type=type(error).__name__)
            return False

    async def _resolved(self, actor_id: str, destination: Destination, plan: PayoutPlan) -> PayoutTarget:
        """Have the destination make an invoice."""
        if self._state.settings.rate_limits:
            wait_s = await self._state.limits.hit("destinations", actor_id, _QUESTIONS_MAX, _QUESTIONS_S)
            if wait_s is not None:
                message = f"Too many invoices were asked for of destinations; try again in {wait_s} s."
                raise errors.rate_limited(message, wait_s)
        try:
            target = await self._state.destinations.resolve(destination, plan.amount_msat, plan.network)
        except DestinationError as error:
            raise _unfit(error.fault, error.told, error.bound_sats) from None
        except TransientError:
            raise RefusedError(_UNREACHABLE) from None
        return replace(target, internal=await self._is_own(target))

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


def _unfit(fault: DestinationFault, told: str, bound_sats: int | None = None) -> RefusedError:
    details: dict[str, Any] = {"fields": [{"path": _PATH, "message": told}], "destinationFault": fault.value}
    if bound_sats is not None:
        details["minSats" if fault is DestinationFault.AMOUNT_TOO_SMALL else "maxSats"] = bound_sats
    return RefusedError(Refusal(Code.INVALID_REQUEST, f"{_PATH}: {told}.", details))

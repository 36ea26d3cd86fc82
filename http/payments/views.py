"""JSON models of invoices and refunds."""

from __future__ import annotations

from typing import Final

from ...actors.domain.payments import invoices, payouts
from ...actors.domain.payments.payouts import PayoutRefusal
from ...actors.domain.payments.standing_refund import StandingRefund
from ...actors.domain.timestamps import timestamp
from ..schema import Invoice
from .schemas import Refund, Route, WithdrawLink

_PAYOUT_FAILED: Final = "The last payout failed for certain, and what it was for is owed again: send another invoice."
_PAYOUT_REFUSED: Final = (
    "That is this server's fault and not your invoice's: its operator is notified, what is owed stays owed, and the "
    "same invoice may be sent again later."
)
_WHY: Final = {
    PayoutRefusal.KEY: "The Lightning node does not let this server pay anything out.",
    PayoutRefusal.FUNDS: "The server's wallet holds too little for the last payout.",
    PayoutRefusal.RULES: "The Lightning node would not pay just then, by a rule of its own or for want of a channel.",
}


def invoice(shown: invoices.Invoice, page: str | None = None) -> Invoice:
    """Return the JSON model of an invoice; `page` is the address of its page, for one of this server."""
    return Invoice(
        payment_request=shown.payment_request,
        payment_hash=shown.payment_hash,
        amount_sats=shown.amount_sats,
        expires_at=timestamp(shown.expires_at_ms),
        pay_page=page,
    )


def refund(shown: payouts.RefundView, withdraw: WithdrawLink | None = None) -> Refund:
    """Return the JSON model of a refund: what is owed and paid, the last payout's failure, and the destination."""
    owing = Refund(
        owed_msat=shown.owed_msat.value,
        paid_msat=shown.paid_msat.value,
        payable_sats=shown.payable_sats,
        state=shown.state,
        withdraw=withdraw,
        route=None if shown.route is None else _route(shown.route),
    ).model_copy(update={} if shown.standing is None else _standing(shown.standing))
    if not shown.failed:
        return owing
    if shown.refusal is None:
        return owing.model_copy(update={"failure": _PAYOUT_FAILED, "failure_code": "payment_failed"})
    failure = f"{_WHY[shown.refusal]} {_PAYOUT_REFUSED}"
    return owing.model_copy(update={"failure": failure, "failure_code": "server_cannot_pay"})


def _standing(shown: StandingRefund) -> dict[str, str | None]:
    waits = shown.tries and shown.next_ms
    return {
        "destination": shown.destination,
        "last_error": shown.error,
        "next_attempt_at": timestamp(shown.next_ms) if waits else None,
    }


def _route(shown: payouts.Route) -> Route:
    fee = shown.fee_msat
    return Route(
        payment_hash=shown.payment_hash,
        reserved_msat=shown.reserve_msat.value,
        fee_msat=None if fee is None else fee.value,
        returned_msat=None if fee is None else (shown.reserve_msat - fee).value,
    )

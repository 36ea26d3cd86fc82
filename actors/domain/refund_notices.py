"""Webhook notices of refunds to a destination: that one was paid, and why a try came to nothing."""

from __future__ import annotations

from typing import Any, Final

from .behaviour import Event
from .payments.payouts import OwingBooks, PayoutPaid, Refunds
from .payments.refund_flow import RefundTryFailed
from .timestamps import timestamp
from .webhooks import Outbox, RefundNotice

_PAID: Final = "refund.paid"
_FAILED: Final = "refund.failed"


def noticed(outbox: Outbox | None, before: Refunds, books: OwingBooks, event: Event) -> Outbox | None:
    """Return the outbox with the notice of this event, if it has one. `books`: after it; `before`: the refunds then.

    A try is told of when it fails for another reason than the one before it, and when it is the last one.
    """
    if outbox is None:
        return None
    owed_msat, payout, standing = books.owed.value, before.under_way, before.standing
    match event:
        case PayoutPaid() if payout is not None and payout.refund_to is not None:
            amount_msat = payout.target.amount_msat.value
            told = RefundNotice(owed_msat, amount_msat=amount_msat, payment_hash=event.payment_hash)
            return outbox.with_notice(_PAID, event.at_ms, refund=told)
        case RefundTryFailed() if standing is not None and (event.next_ms is None or event.error != standing.error):
            told = RefundNotice(owed_msat, error=event.error, next_ms=event.next_ms or 0)
            return outbox.with_notice(_FAILED, event.at_ms, refund=told)
    return outbox


def data(told: RefundNotice) -> dict[str, Any]:
    """Build the data of a notice; the names are those of the API."""
    if not told.error:
        paid = {"amountSats": told.amount_msat // 1_000, "paymentHash": told.payment_hash}
        return {**paid, "owedMsat": told.owed_msat}
    following = {"nextAttemptAt": timestamp(told.next_ms)} if told.next_ms else {}
    return {"error": told.error, **following, "owedMsat": told.owed_msat}

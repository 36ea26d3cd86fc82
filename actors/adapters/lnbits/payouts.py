"""Messages of LNbits about payments that we make. Source: LNbits 1.6.2, `core/services/payments.py`.

LNbits refuses a payment that it does not want to make with status 520 and a word of its own. A payment that its node
has not ended within seconds is "pending", in an answer of success. For an invoice that it pays or has paid already, one
of its own wallets' included, its word differs from case to case: only the list of payments tells whose payment that
was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ...domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...ports import TransientError
from ..lightning.reading import read, rubbish, sane_msat
from .messages import ACTOR, TAG, actor_of, detail_of

PATH: Final = "/api/v1/payments/paginated"
"""Path for look-ups. The plain list leaves failed payments out, and the single one shows but one half."""

_UNKNOWN_KEY: Final = "wallet not found"
# LNbits's refusals before it has looked for a route, whatever the invoice. Source: LNbits 1.6.2, `pay_invoice` and
# `_check_wallet_for_payment`. The last two come with status 400, all others with 520.
_REFUSALS: Final[Mapping[str, PayoutRefusal]] = {
    "insufficient balance": PayoutRefusal.FUNDS,
    "you must reserve at least": PayoutRefusal.FUNDS,
    "only incoming payments allowed": PayoutRefusal.RULES,
    "wallet does not have permission to pay": PayoutRefusal.RULES,
    "the time limit of": PayoutRefusal.RULES,
    "daily withdrawal limit of": PayoutRefusal.RULES,
    "it is not allowed to spend funds": PayoutRefusal.RULES,
}
# LNbits's word for each state, in answers and in lists.
_STATES: Final[Mapping[str, PayoutStatus]] = {
    "success": PayoutStatus.PAID,
    "failed": PayoutStatus.FAILED,
    "pending": PayoutStatus.PENDING,
}
# One actor should never pay the same invoice several times. If it did, the state that is worst for us counts.
_WORST_FIRST: Final = (PayoutStatus.PAID, PayoutStatus.PENDING, PayoutStatus.FAILED)


class _Outgoing(msgspec.Struct, frozen=True):
    """Outgoing payment of the wallet. `amount` is negative and holds no fee; both are in msat.

    `fee` is negative for payments by the node, positive for those within LNbits; a reserve until the end is known.
    """

    payment_hash: str
    amount: int
    status: str
    checking_id: str = ""
    fee: int = 0
    extra: Any = None
    updated_at: str = ""


class _Page(msgspec.Struct, frozen=True):
    data: list[_Outgoing]
    total: int


class _Unpaid(msgspec.Struct, frozen=True):
    """Answer about a payment of any wallet. LNbits leaves `status` out where it is pending."""

    paid: bool
    status: str = "pending"


class _Refusal(msgspec.Struct, frozen=True):
    detail: str
    status: str


def payment_order(target: PayoutTarget, actor_id: str) -> dict[str, Any]:
    """Return the body that has an invoice paid, and the payment marked as this actor's."""
    return {"out": True, "bolt11": target.payment_request, "extra": {"tag": TAG, ACTOR: actor_id}}


def payment_query(target: PayoutTarget) -> dict[str, str]:
    """Return the query for outgoing payments to an invoice; LNbits first asks its node how pending ones are."""
    return {
        "payment_hash[eq]": target.payment_hash,
        "amount[lt]": "0",
        "recheck_pending": "true",
        "limit": "10",
    }


def sent_query(limit: int, offset: int) -> dict[str, str]:
    """Return the query for payments of ours that went out and were paid, the newest first."""
    return {
        "status[eq]": "success",
        "amount[lt]": "0",
        "tag[eq]": TAG,
        "sortby": "updated_at",
        "direction": "desc",
        "limit": str(limit),
        "offset": str(offset),
    }


def read_sent(body: bytes) -> list[SentPayment]:
    """Return the payments of a page of `sent_query`. Raises `TransientError` when others are among them."""
    rows = read(body, _Page).data
    if any(row.amount >= 0 or row.status != "success" for row in rows):
        raise rubbish("other payments than those that were asked for")
    return [
        SentPayment(
            row.checking_id,
            row.payment_hash,
            sane_msat(-row.amount),
            sane_msat(abs(row.fee)),
            actor_id,
            _time_of(row.updated_at),
        )
        for row in rows
        if (actor_id := actor_of(row.extra)) is not None
    ]


def _time_of(updated_at: str) -> int:
    """Return the time in milliseconds; 0 for one that can't be read. LNbits leaves out that it is UTC."""
    try:
        at = datetime.fromisoformat(updated_at)
    except ValueError:
        return 0
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def read_order_answer(status: int, body: bytes, target: PayoutTarget, actor_id: str) -> PayoutReport | None:
    """Return the report in an answer to the order; None where LNbits's own word is missing.

    The outcome is then unknown. Raises `TransientError` when the answer does not answer this order, which leaves the
    outcome unknown too.
    """
    if status == 201:
        payment = read(body, _Outgoing)
        if payment.payment_hash != target.payment_hash:
            raise rubbish("another payment than the one that was ordered")
        ours = actor_of(payment.extra) == actor_id
        # LNbits also shows an earlier payment here as failed, where its node is not so sure of that.
        return _report(payment, target) if ours and payment.status == "success" else PayoutReport(PayoutStatus.PENDING)
    if status == 520:
        return _read_refusal(body)
    return _refused_at_the_door(status, body)


def is_unpaid(body: bytes) -> bool:
    """Return whether an answer about one payment shows that it may still be paid. Raises `TransientError`."""
    status = read(body, _Unpaid)
    return not status.paid and status.status == "pending"


def read_list(body: bytes, target: PayoutTarget, actor_id: str) -> PayoutReport:
    """Return the state of this actor's payment, from the answer to `payment_query`. Raises `TransientError`."""
    page = read(body, _Page)
    if any(row.payment_hash != target.payment_hash or row.amount >= 0 for row in page.data):
        # LNbits passes over filters that it does not know. A payment missing here may then be in the next list.
        raise rubbish("other payments than those that were asked for")
    if not page.data:
        if page.total:
            raise rubbish("an empty list of payments that exist")
        return PayoutReport(PayoutStatus.ABSENT)
    ours = [_report(row, target) for row in page.data if actor_of(row.extra) == actor_id]
    # A payment to this invoice by another payer did not pay our client, and LNbits pays no invoice twice.
    return _worst(ours) if ours else PayoutReport(PayoutStatus.FAILED)


def _worst(reports: Sequence[PayoutReport]) -> PayoutReport:
    return min(reports, key=lambda report: _WORST_FIRST.index(report.status))


def _report(payment: _Outgoing, target: PayoutTarget) -> PayoutReport:
    """Return a payment of ours in its state. Raises `TransientError` for one that is not over the invoice's amount."""
    status = _STATES.get(payment.status)
    if status is None:
        raise rubbish("a payment in an unknown state")
    if payment.amount != -target.amount_msat.value:
        raise rubbish("a payment over another amount")
    return PayoutReport(status, sane_msat(abs(payment.fee))) if status is PayoutStatus.PAID else PayoutReport(status)


def _read_refusal(body: bytes) -> PayoutReport | None:
    """Return the report of an error about the payment itself.

    It is certain only where LNbits itself says that the payment failed.
    """
    try:
        refusal = read(body, _Refusal)
    except TransientError:
        return None
    match _STATES.get(refusal.status):
        case None:
            return None
        case PayoutStatus.FAILED:
            return PayoutReport(PayoutStatus.FAILED, refusal=_refusal_of(refusal.detail))
    # An earlier order, not necessarily ours, pays or has paid the invoice.
    return PayoutReport(PayoutStatus.PENDING)


def _refusal_of(detail: str) -> PayoutRefusal | None:
    """Return why LNbits would pay nothing at all, by its own words; None when this very payment failed."""
    words = detail.lower()
    return next((refusal for start, refusal in _REFUSALS.items() if words.startswith(start)), None)


def _refused_at_the_door(status: int, body: bytes) -> PayoutReport | None:
    """Return the report of an order that LNbits refused before it looked at the invoice.

    Such a refusal is for its key, its shape, or by a rule. LNbits's other errors with status 400 come from any function
    that did not like a value, after the payment too.
    """
    detail = detail_of(body)
    if detail is None:
        return None
    if status in (401, 403) or (status == 404 and _UNKNOWN_KEY in detail.lower()):
        return PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)
    if status not in (400, 422):
        return None
    if isinstance(json.loads(body)["detail"], list):
        return PayoutReport(PayoutStatus.FAILED)
    refusal = _refusal_of(detail) if status == 400 else None
    return None if refusal is None else PayoutReport(PayoutStatus.FAILED, refusal=refusal)

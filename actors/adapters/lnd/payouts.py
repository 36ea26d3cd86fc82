"""Messages of LND about payments that we make.

Source: LND's `routerrpc/router.swagger.json`. An order is answered by a stream of updates, and so is the question about
a payment: its first update is the present state. A payment that failed has no part under way any more.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any, Final

import msgspec

from ...domain.money import Msat
from ...domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ..lightning.reading import rubbish, sane_msat
from .messages import NOT_FOUND, Failure, read
from .rights import is_about_macaroon

SEND: Final = "/v2/router/send"
PAYMENTS: Final = "/v1/payments"

# Seconds for which LND looks for further routes. Our own call may end sooner: the look-up then says how it ended.
_ROUTES_WITHIN_S: Final = 60
_UNKNOWN_PAYMENT: Final = "payment isn't initiated"
# LND's words for a payment of an earlier order to the same invoice; with them goes gRPC's ALREADY_EXISTS.
_ALREADY_EXISTS: Final = 6
_EARLIER: Final = ("invoice is already paid", "payment is in transition", "payment already exists")
# LND's words for an invoice that it does not try to pay. Source: LND's `extractIntentFromSendRequest`.
_UNFIT: Final = ("invoice expired", "self-payments not allowed", "invoice not for current active network")
_NO_FUNDS: Final = "FAILURE_REASON_INSUFFICIENT_BALANCE"
_UNDER_WAY: Final = frozenset({"UNKNOWN", "IN_FLIGHT", "INITIATED"})


class _Part(msgspec.Struct, frozen=True):
    status: str = ""


class Payment(msgspec.Struct, frozen=True):
    """Outgoing payment. `payment_index` counts the payments as they are made."""

    payment_hash: str
    status: str
    value_msat: int = 0
    fee_msat: int = 0
    failure_reason: str = ""
    creation_time_ns: int = 0
    payment_index: int = 0
    htlcs: list[_Part] = []


class _Update(msgspec.Struct, frozen=True):
    result: Payment


class _Page(msgspec.Struct, frozen=True):
    payments: list[Payment] = []


def payment_order(target: PayoutTarget, fee_limit_msat: Msat) -> dict[str, Any]:
    """Return the body that has an invoice paid. It never allows a payment to the node itself."""
    return {
        "payment_request": target.payment_request,
        "fee_limit_msat": str(fee_limit_msat.value),
        "timeout_seconds": _ROUTES_WITHIN_S,
        "no_inflight_updates": True,
    }


def track_path(payment_hash: str) -> str:
    """Return the path that tells what became of a payment. A plus or a slash would lead elsewhere."""
    return f"/v2/router/track/{urlsafe_b64encode(bytes.fromhex(payment_hash)).decode()}"


def read_order_failure(failure: Failure) -> PayoutReport | None:
    """Return the report of an order that LND answered with an error; None where that leaves the outcome unknown."""
    words = failure.message.lower()
    if is_about_macaroon(failure):
        return PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)
    if failure.code == _ALREADY_EXISTS or words.startswith(_EARLIER):
        return PayoutReport(PayoutStatus.PENDING)
    return PayoutReport(PayoutStatus.FAILED) if words.startswith(_UNFIT) else None


def read_track_failure(failure: Failure) -> PayoutReport | None:
    """Return the report of a payment that LND does not know; None for all other errors."""
    unknown = failure.code == NOT_FOUND and _UNKNOWN_PAYMENT in failure.message.lower()
    return PayoutReport(PayoutStatus.ABSENT) if unknown else None


def read_update(line: bytes, target: PayoutTarget) -> PayoutReport:
    """Return the state of the payment to this invoice. Raises `TransientError` for an update about another one."""
    payment = read(line, _Update).result
    if payment.payment_hash != target.payment_hash:
        raise rubbish("another payment than the one that was asked for")
    if payment.status in _UNDER_WAY:
        return PayoutReport(PayoutStatus.PENDING)
    if payment.value_msat != target.amount_msat.value:
        raise rubbish("a payment over another amount")
    match payment.status:
        case "SUCCEEDED":
            return PayoutReport(PayoutStatus.PAID, sane_msat(payment.fee_msat))
        case "FAILED":
            return _failed(payment)
    raise rubbish("a payment in an unknown state")


def _failed(payment: Payment) -> PayoutReport:
    parts = {part.status for part in payment.htlcs}
    if "SUCCEEDED" in parts:
        raise rubbish("a failed payment of which a part was paid")
    if "IN_FLIGHT" in parts:
        return PayoutReport(PayoutStatus.PENDING)
    # After an attempt the reason may be one channel's balance, and not the wallet's.
    never_tried = payment.failure_reason == _NO_FUNDS and not parts
    return PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.FUNDS if never_tried else None)


def sent_query(limit: int, before_index: int) -> dict[str, str]:
    """Return the query for payments that were paid, the newest before this index; 0 for the newest of all."""
    return {
        "include_incomplete": "false",
        "reversed": "true",
        "max_payments": str(limit),
        "index_offset": str(before_index),
    }


def read_sent(body: bytes) -> list[tuple[int, SentPayment]]:
    """Return a page of `sent_query` with the index of each payment, the newest first. Raises `TransientError`."""
    rows = read(body, _Page).payments
    if any(row.status != "SUCCEEDED" or row.payment_index < 1 for row in rows):
        raise rubbish("other payments than those that were asked for")
    return [
        (
            row.payment_index,
            SentPayment(
                str(row.payment_index),
                row.payment_hash,
                sane_msat(row.value_msat),
                sane_msat(row.fee_msat),
                "",
                row.creation_time_ns // 1_000_000,
            ),
        )
        for row in sorted(rows, key=lambda row: row.payment_index, reverse=True)
    ]

"""Messages of phoenixd about payments that we make. Source: phoenixd 0.8, `Api.kt`.

The words of its answers are those of lightning-kmp's `OutgoingPaymentFailure.kt`. An order is answered when the payment
has ended, with status 200 also where it failed. The node tries an invoice again that failed before, and shows of all
attempts the one that is best for the payee.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ...domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget
from ..lightning.reading import read, rubbish, sane_msat

PATH: Final = "/payinvoice"
PENDING: Final = PayoutReport(PayoutStatus.PENDING)
FAILED: Final = PayoutReport(PayoutStatus.FAILED)
ABSENT: Final = PayoutReport(PayoutStatus.ABSENT)

# The node's words for reasons that have nothing to do with the invoice. It tried nothing.
_REFUSALS: Final[Mapping[str, PayoutRefusal]] = {
    "not enough funds": PayoutRefusal.FUNDS,
    # There is no channel, as nothing has come in yet that paid for one.
    "payment could not be sent through existing channels": PayoutRefusal.FUNDS,
    "channel is not connected": PayoutRefusal.RULES,
    "channel creation is in progress": PayoutRefusal.RULES,
    "channel closing is in progress": PayoutRefusal.RULES,
    "a splicing operation is in progress": PayoutRefusal.RULES,
    "too many pending payments": PayoutRefusal.RULES,
}
# An earlier order has paid, or may still pay: only the look-up tells whose it was.
_EARLIER: Final = ("this invoice has already been paid", "another payment is in progress")
_UNAUTHORISED: Final = "Invalid authentication"
_UNREADABLE: Final = "Request parameter"
_NOT_FOUND: Final = "Not found"
# Releases before 0.6 say of an unknown payment what they say of an unknown path.
_UNKNOWN_PATH: Final = "Unknown endpoint (check api doc)"
_LIGHTNING: Final = "lightning"


class Outgoing(msgspec.Struct, frozen=True, rename="camel"):
    """Outgoing payment. `sent` is what left the wallet, in sats and with the fees; `fees` are in msat.

    A payment without a time of its end is under way. `invoice` is missing for offers and for payments on chain.
    """

    payment_id: str
    is_paid: bool
    created_at: int
    sub_type: str = _LIGHTNING
    payment_hash: str | None = None
    sent: int = 0
    fees: int = 0
    invoice: str | None = None
    completed_at: int | None = None

    @property
    def by_lightning(self) -> bool:
        """False for on-chain payments, such as what a channel cost."""
        return self.sub_type == _LIGHTNING

    def report(self) -> PayoutReport:
        """Return the payment's state. Raises `TransientError` for an absurd fee."""
        if self.is_paid:
            return PayoutReport(PayoutStatus.PAID, sane_msat(self.fees))
        return PENDING if self.completed_at is None else FAILED


class _Ended(msgspec.Struct, frozen=True, rename="camel"):
    """Answer to an order: with a preimage it was paid, with a reason it failed."""

    payment_hash: str | None = None
    payment_preimage: str | None = None
    reason: str | None = None


def payment_form(target: PayoutTarget) -> dict[str, str]:
    """Return the form that has an invoice paid over its own amount. The node takes no limit for its fee."""
    return {"invoice": target.payment_request}


def read_order_answer(status: int, body: bytes, target: PayoutTarget) -> PayoutReport | None:
    """Return the report in an answer to the order; None where the node's own word is missing.

    The outcome is then unknown. PAID is without its fee, which stands here rounded down: the look-up tells it. Raises
    `TransientError` when the answer does not answer this order, which leaves the outcome unknown too.
    """
    if status == 200:
        return _read_end(body, target)
    text = body[:200].decode(errors="replace")
    if status == 401 and text.startswith(_UNAUTHORISED):
        return PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)
    # The node's own errors are a line of text: a form that it can't read, before it looks at the payment.
    return FAILED if status == 400 and text.startswith(_UNREADABLE) else None


def _read_end(body: bytes, target: PayoutTarget) -> PayoutReport:
    ended = read(body, _Ended)
    if ended.payment_hash is not None and ended.payment_hash != target.payment_hash:
        raise rubbish("another payment than the one that was ordered")
    if ended.payment_preimage is not None:
        return PayoutReport(PayoutStatus.PAID)
    if ended.reason is None:
        raise rubbish("an end without a reason")
    reason = ended.reason.lower()
    if reason.startswith(_EARLIER):
        return PENDING
    refusal = next((refusal for start, refusal in _REFUSALS.items() if reason.startswith(start)), None)
    return PayoutReport(PayoutStatus.FAILED, refusal=refusal)


def is_unknown(status: int, body: bytes) -> bool:
    """Return True for the node's own word that it knows no such payment. A proxy's 404 says nothing."""
    return status == 404 and body.decode(errors="replace").strip() == _NOT_FOUND


def is_unknown_path(status: int, body: bytes) -> bool:
    """Return True where the node knows either no such path or, before 0.6, no such payment."""
    return status == 404 and body.decode(errors="replace").strip() == _UNKNOWN_PATH


def read_payment(body: bytes, target: PayoutTarget) -> PayoutReport:
    """Return the state of the payment that was asked for. Raises `TransientError`."""
    payment = read(body, Outgoing)
    if payment.payment_hash != target.payment_hash or not payment.by_lightning:
        raise rubbish("another payment than the one that was asked for")
    return payment.report()

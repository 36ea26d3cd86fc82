"""Messages of LNbits that we read: payments, and the status of one. Source: LNbits 1.6.2, `core/models`."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from ...domain.money import Msat
from ...domain.payments.bolt11 import read_invoice
from ...domain.payments.invoices import Invoice, Settlement
from ...ports import InvoiceOrder, TransientError
from ..lightning.reading import is_payment_hash, read, rubbish, sane_msat

ACTOR: Final = "satmeter_actor"
"""Field of a payment's `extra` that names the actor it belongs to."""
TAG: Final = "satmeter"
"""Tag of our payments, by which LNbits filters, so that others in the wallet don't crowd them out of a list."""


class Payment(msgspec.Struct, frozen=True):
    """Payment of the wallet. `amount` is in msat: positive for incoming ones, negative for outgoing ones."""

    payment_hash: str
    amount: int
    status: str
    bolt11: str = ""
    extra: Any = None

    def settlement(self) -> Settlement | None:
        """Return the credit of this payment; None unless it came in and succeeded.

        Raises `TransientError` for an absurd amount.
        """
        if self.status != "success" or self.amount <= 0 or not is_payment_hash(self.payment_hash):
            return None
        return Settlement(self.payment_hash, sane_msat(self.amount), actor_of(self.extra))


class _FormerInvoice(msgspec.Struct, frozen=True):
    payment_request: str


class Status(msgspec.Struct, frozen=True):
    """Answer about one payment. LNbits adds `details` only for a key that owns the payment.

    A preimage that may stand beside it is not read: LNbits knows it before the invoice is paid, so it proves nothing.
    """

    paid: bool
    details: Payment | None = None


class Wallet(msgspec.Struct, frozen=True):
    """Wallet behind a key; `balance` in msat."""

    balance: int | float


class _PushedPayment(msgspec.Struct, frozen=True):
    payment_hash: str


class _Push(msgspec.Struct, frozen=True):
    payment: _PushedPayment


def actor_of(extra: Any) -> str | None:
    """Return the actor that a payment's extra data names, None for payments that are not ours."""
    actor_id = extra.get(ACTOR) if isinstance(extra, dict) else None
    return actor_id if isinstance(actor_id, str) else None


def read_new_invoice(body: bytes, order: InvoiceOrder) -> Invoice:
    """Return the invoice that was ordered.

    Raises `TransientError` when the answer, or the BOLT11 text in it, is for another one.
    """
    try:
        payment = read(body, Payment)
    except TransientError:
        if _is_former(body):
            raise TransientError("the Lightning node is an LNbits before 1.0, which is too old: upgrade it") from None
        raise
    ordered_msat = Msat.from_sats(order.amount_sats)
    try:
        invoice = read_invoice(payment.bolt11)
    except ValueError as error:
        raise rubbish(str(error)) from None
    if invoice.amount_msat != ordered_msat or payment.amount != ordered_msat.value:
        raise rubbish("an invoice over another amount")
    # A client pays the hash in the BOLT11 text, while we would ask about the one beside it.
    if invoice.payment_hash != payment.payment_hash:
        raise rubbish("an invoice with another payment hash")
    return Invoice(invoice.payment_request, payment.payment_hash, order.amount_sats, invoice.expires_at_ms)


def _is_former(body: bytes) -> bool:
    """Return True for a new invoice as LNbits wrote it before 1.0: without its amount and state."""
    try:
        return msgspec.json.decode(body, type=_FormerInvoice).payment_request != ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def hinted_hash(message: str | bytes) -> str | None:
    """Return the payment hash in a pushed message, None for a message that doesn't look like one about a payment."""
    try:
        push = msgspec.json.decode(message, type=_Push)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return push.payment.payment_hash if is_payment_hash(push.payment.payment_hash) else None


def detail_of(body: bytes) -> str | None:
    """Return LNbits's own words about an error, None when they are not its own: a proxy's page, for instance."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    detail = answer.get("detail") if isinstance(answer, dict) else None
    if detail is None:
        return None
    return detail if isinstance(detail, str) else json.dumps(detail)

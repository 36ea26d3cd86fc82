"""Messages of wallets that we read: invoices and payments. Source: NIP-47, and the wallets named beside each rule.

Wallets differ in what they leave out, so nearly every field may be missing. What settles an invoice is `state`, where
the wallet has it (Alby Hub, LNbits). Without it `settled_at` alone is not enough: LNbits's wallet service of before
2026 sets it for invoices that lapsed, too, to the time when they were made, and shows preimages of unpaid invoices.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from ...domain.money import Msat
from ...domain.payments.bolt11 import normalised, read_invoice
from ...domain.payments.bolt11_reading import read_fields
from ...domain.payments.invoices import Invoice, Settlement
from ...ports import InvoiceOrder, PermanentError, PortError, TransientError
from ..lightning.descriptions import actor_in, description_of
from ..lightning.reading import is_payment_hash, rubbish, sane_msat
from .exchange import Answer, WalletError

_DETAIL_MAX_CHARS: Final = 200
_CLOCK_MARGIN_S: Final = 600

# Codes of NIP-47, and some wallets' own: Alby Hub's EXPIRED is a connection whose time is over.
NOT_FOUND: Final = "NOT_FOUND"
INTERNAL: Final = "INTERNAL"
RATE_LIMITED: Final = "RATE_LIMITED"
NO_RIGHT: Final = frozenset({"UNAUTHORIZED", "RESTRICTED", "EXPIRED", "NOT_IMPLEMENTED"})
_TRANSIENT: Final = frozenset({INTERNAL, RATE_LIMITED, "OTHER"})
_UNDER_WAY: Final = ("pending", "accepted")
# LNbits's wallet service has no code for it.
_NOT_FOUND_WORDS: Final = frozenset({"payment not found"})

T = TypeVar("T")


class Direction(StrEnum):
    """Directions of a payment."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"


class State(StrEnum):
    """States of a payment.

    LAPSED: the invoice of an outgoing payment has lapsed before it was seen to end. UNTOLD: the wallet says nothing
    that settles the question.
    """

    SETTLED = "settled"
    UNPAID = "unpaid"
    FAILED = "failed"
    LAPSED = "lapsed"
    UNTOLD = "untold"


_OUTGOING: Final = {
    "settled": State.SETTLED,
    "failed": State.FAILED,
    "expired": State.LAPSED,
    **dict.fromkeys(_UNDER_WAY, State.UNPAID),
}


class Transaction(msgspec.Struct, frozen=True):
    """An invoice or a payment of the wallet's; amounts in msat, times in seconds."""

    type: str | None = None
    state: str | None = None
    invoice: str | None = None
    description: str | None = None
    preimage: str | None = None
    payment_hash: str | None = None
    amount: int | None = None
    fees_paid: int | None = None
    created_at: int | None = None
    settled_at: int | None = None

    @property
    def hash(self) -> str | None:
        """The payment hash. coinos names something else as that of payments, so the invoice's own comes first."""
        if self.invoice:
            try:
                return read_invoice(self.invoice).payment_hash
            except ValueError:
                pass
        named = (self.payment_hash or "").lower()
        return named if is_payment_hash(named) else None

    @property
    def proves_payment(self) -> bool:
        """True if the preimage is that of the hash: a payer learns it only from the maker of the invoice."""
        return self.hash is not None and is_preimage_of(self.preimage, self.hash)

    @property
    def actor_id(self) -> str | None:
        """The actor that the invoice names; the wallet's own text of it may have been edited."""
        told = self.description or ""
        try:
            fields = read_fields(normalised(self.invoice or ""))
        except ValueError:
            return actor_in(told)
        if fields.memo_hash is None:
            return actor_in(fields.memo or "")
        return actor_in(told) if fields.memo_hash == _digest(told) else None

    def incoming_state(self, *, listed_as_paid: bool = False) -> State:
        """Return whether this invoice of ours was paid. `listed_as_paid`: the list was to hold no unpaid ones."""
        if self.state is not None:
            state = self.state.lower()
            if state == "settled":
                return State.SETTLED
            return State.UNPAID if state in (*_UNDER_WAY, "expired", "failed") else State.UNTOLD
        if not self.settled_at:
            return State.UNPAID
        # coinos names one time only for what it lists.
        return State.UNTOLD if self.settled_at == self.created_at and not listed_as_paid else State.SETTLED

    def outgoing_state(self) -> State:
        """Return what became of this payment of ours.

        Alby Hub says "expired" of payments to an invoice that has lapsed, whether they failed or are still under way.
        """
        if self.state is not None:
            return _OUTGOING.get(self.state.lower(), State.UNTOLD)
        if not self.settled_at:
            return State.UNPAID
        return State.SETTLED if self.proves_payment else State.UNTOLD

    def settlement(self) -> Settlement:
        """Return the credit of a paid invoice. Raises `TransientError` where the amount or the hash is missing."""
        if self.hash is None or self.amount is None or self.amount <= 0:
            raise rubbish("a paid invoice without its amount or its hash")
        return Settlement(self.hash, sane_msat(self.amount), self.actor_id)


class Page(msgspec.Struct, frozen=True):
    """Answer to `list_transactions`."""

    transactions: list[Any]

    @property
    def rows(self) -> list[Transaction]:
        """The payments. One that can't be read is empty: it counts as a row, and must not hide the others."""
        return [_row(each) for each in self.transactions]


class Balance(msgspec.Struct, frozen=True):
    """Answer to `get_balance`, in msat."""

    balance: int


class Info(msgspec.Struct, frozen=True):
    """Answer to `get_info`."""

    methods: list[str] | None = None
    network: str | None = None
    notifications: list[str] | None = None


class Budget(msgspec.Struct, frozen=True):
    """Answer to `get_budget`, in msat; Alby Hub leaves all of it out where there is no limit."""

    used_budget: int = 0
    total_budget: int = 0
    renewal_period: str | None = None


class PaidAnswer(msgspec.Struct, frozen=True):
    """Answer to `pay_invoice`. Primal leaves the preimage out, LNbits writes zeros, coinos its own id."""

    preimage: str | None = None
    fees_paid: int | None = None


class HintedPayment(msgspec.Struct, frozen=True):
    """Payment that a notification is about."""

    payment_hash: str


def invoiced_at_s(row: Transaction) -> int | None:
    """Return a time before which the invoice of this payment was not made; None where that is unknown."""
    try:
        return max(0, read_fields(normalised(row.invoice or "")).at_s - _CLOCK_MARGIN_S)
    except ValueError:
        return None


def is_preimage_of(preimage: str | None, payment_hash: str) -> bool:
    """Return whether this is the preimage of the hash, in hex."""
    text = (preimage or "").lower()
    return is_payment_hash(text) and hashlib.sha256(bytes.fromhex(text)).hexdigest() == payment_hash


def read(answer: Answer, kind: type[T]) -> T:
    """Return a wallet's result as a value of this type. Raises `PortError` for an error, and for other values."""
    if answer.error is not None:
        raise failure(answer.error)
    try:
        return msgspec.convert(answer.result, kind)
    except msgspec.ValidationError:
        raise rubbish("not the expected fields") from None


def _digest(text: str) -> str:
    # JSON can name half a character, which has no UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _row(told: Any) -> Transaction:
    try:
        return msgspec.convert(told, Transaction)
    except msgspec.ValidationError:
        return Transaction()


def is_not_found(error: WalletError) -> bool:
    """Return whether the wallet says that it has never heard of a payment."""
    words = (error.message or "").strip().rstrip(".").lower()
    return error.code == NOT_FOUND or (error.code == INTERNAL and words in _NOT_FOUND_WORDS)


def failure(error: WalletError) -> PortError:
    """Return a wallet's error as one of the port's."""
    said = f"the wallet answered {(error.code or 'an error')[:40]}: {(error.message or '')[:_DETAIL_MAX_CHARS]}"
    if error.code in _TRANSIENT:
        return TransientError(said)
    return PermanentError(said)


def read_new_invoice(answer: Answer, order: InvoiceOrder) -> Invoice:
    """Return the invoice that was ordered.

    Raises `TransientError` when the answer, or the BOLT11 text in it, is for another one, and `PermanentError` when the
    wallet has dropped the description: its payment could not be credited.
    """
    made: Transaction = read(answer, Transaction)
    ordered_msat = Msat.from_sats(order.amount_sats)
    try:
        invoice = read_invoice(made.invoice or "")
        fields = read_fields(invoice.payment_request)
    except ValueError as error:
        raise rubbish(str(error)) from None
    if invoice.amount_msat != ordered_msat:
        raise rubbish("an invoice over another amount")
    # coinos leaves the hash out. A client pays the one in the BOLT11 text.
    if made.payment_hash and made.payment_hash.lower() != invoice.payment_hash:
        raise rubbish("an invoice with another payment hash")
    # LNbits's wallet service has invoices made over the hash of the description, and lists the text beside it.
    if fields.memo_hash != _digest(description_of(order)) and actor_in(fields.memo or "") != order.actor_id:
        raise PermanentError("the wallet does not keep descriptions of invoices: payments could not be credited")
    return Invoice(invoice.payment_request, invoice.payment_hash, order.amount_sats, invoice.expires_at_ms)


def hinted_hash(notification_type: str, notification: Any) -> str | None:
    """Return the payment hash in a notification; None for one that is not about a payment to us."""
    if notification_type != "payment_received":
        return None
    try:
        payment_hash = msgspec.convert(notification, HintedPayment).payment_hash.lower()
    except msgspec.ValidationError:
        return None
    return payment_hash if is_payment_hash(payment_hash) else None

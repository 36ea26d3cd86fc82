"""Messages of LND's REST interface that we read: invoices, errors, balances.

Source: LND's `lnrpc/lightning.swagger.json`. 64-bit numbers are texts there, bytes are base64, and a default value is
spelled out. An error is `{"code", "message", "details"}`, and within a stream it stands under `error`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from hashlib import sha256
from typing import Final, TypeVar

import msgspec

from ...domain.money import Msat
from ...domain.payments.bolt11 import read_invoice
from ...domain.payments.invoices import Invoice, Settlement
from ...ports import InvoiceOrder
from ..lightning.reading import rubbish, sane_msat

SETTLED: Final = "SETTLED"
# A held invoice is accepted, and may be given back. A cancelled one has expired, and can't be paid any more.
_UNPAID: Final = frozenset({"OPEN", "ACCEPTED", "CANCELED"})
_ENDED: Final = frozenset({SETTLED, "CANCELED"})

NOT_FOUND: Final = 5
"""gRPC's code for an unknown invoice or payment; the gateway before LND gives it for an unknown path, too."""

NO_INVOICES: Final = "there are no existing invoices"
"""LND's word at a node that has never made an invoice, with gRPC's UNKNOWN as its code."""
# The gateway's word for a path that it does not know, with the code of an unknown invoice.
_UNKNOWN_PATH: Final = "not found"

T = TypeVar("T")


class Row(msgspec.Struct, frozen=True):
    """Invoice of the node. `add_index` counts invoices as they are made, `settle_index` as they are paid."""

    r_hash: str
    state: str
    memo: str = ""
    r_preimage: str = ""
    amt_paid_msat: int = 0
    add_index: int = 0
    settle_index: int = 0

    @property
    def payment_hash(self) -> str:
        """Payment hash in hex. Raises `TransientError`."""
        return hex_of(self.r_hash)

    @property
    def preimage(self) -> bytes:
        """Preimage of 32 bytes, which LND knows before the payment; empty where it is not told."""
        try:
            data = base64.b64decode(self.r_preimage, validate=True)
        except (binascii.Error, ValueError):
            return b""
        return data if len(data) == 32 else b""

    @property
    def is_over(self) -> bool:
        """True if the invoice's state is final."""
        return self.state in _ENDED

    def settlement(self, owner_of: OwnerOf) -> Settlement | None:
        """Return the credit of this invoice, over what arrived; None while it is unpaid.

        Raises `TransientError` for an unknown state or an absurd amount.
        """
        if self.state in _UNPAID:
            return None
        if self.state != SETTLED:
            raise rubbish("an invoice in an unknown state")
        amount_msat = sane_msat(self.amt_paid_msat)
        if not amount_msat:
            raise rubbish("a paid invoice that nothing was paid to")
        return Settlement(self.payment_hash, amount_msat, owner_of(self))


OwnerOf = Callable[[Row], str | None]
"""Returns the actor that an invoice was made for; None for one of another program."""


class Rows(msgspec.Struct, frozen=True):
    """Page of invoices, in no order that we rely on."""

    invoices: list[Row] = []


class _NewInvoice(msgspec.Struct, frozen=True):
    r_hash: str
    payment_request: str


class Failure(msgspec.Struct, frozen=True):
    """LND's own words about an error, with gRPC's code."""

    code: int
    message: str


class _AnyFailure(msgspec.Struct, frozen=True):
    code: int | None = None
    message: str | None = None
    error: Failure | None = None


class Info(msgspec.Struct, frozen=True):
    """The node about itself."""

    identity_pubkey: str
    synced_to_chain: bool = True
    version: str = ""


class _Amount(msgspec.Struct, frozen=True):
    msat: int = 0


class Balance(msgspec.Struct, frozen=True):
    """Sums over all open channels; what is under way in them is in neither."""

    local_balance: _Amount
    remote_balance: _Amount


def hex_of(base64_text: str) -> str:
    """Return 32 bytes in hex, from base64 of either alphabet. Raises `TransientError`."""
    try:
        data = base64.b64decode(base64_text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != 32:
        raise rubbish("a payment hash that is not 32 bytes")
    return data.hex()


def read(body: bytes, kind: type[T]) -> T:
    """Return the answer as a value of this type; texts count as numbers. Raises `TransientError`."""
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise rubbish("not the expected JSON") from None


def failure_in(body: bytes) -> Failure | None:
    """Return LND's own words about an error; None when they are not its own: a proxy's page, for instance."""
    try:
        found = msgspec.json.decode(body, type=_AnyFailure)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if found.error is not None:
        return found.error
    return None if found.code is None or found.message is None else Failure(found.code, found.message)


def is_unknown_invoice(failure: Failure) -> bool:
    """Return whether LND says for certain that it does not have an invoice."""
    words = failure.message.lower()
    return words == NO_INVOICES or (failure.code == NOT_FOUND and words != _UNKNOWN_PATH)


def invoice_order(
    order: InvoiceOrder, description: str, preimage: bytes, *, route_hints: bool
) -> dict[str, str | bool]:
    """Return the body that has an invoice made."""
    return {
        "memo": description,
        "r_preimage": base64.b64encode(preimage).decode(),
        "value": str(order.amount_sats),
        "expiry": str(order.expiry_s),
        "private": route_hints,
    }


def read_new_invoice(body: bytes, order: InvoiceOrder, preimage: bytes) -> Invoice:
    """Return the invoice that was ordered, with the hash of its preimage.

    Raises `TransientError` when the answer, or the BOLT11 text in it, is for another one.
    """
    made = read(body, _NewInvoice)
    try:
        invoice = read_invoice(made.payment_request)
    except ValueError as error:
        raise rubbish(str(error)) from None
    if invoice.amount_msat != Msat.from_sats(order.amount_sats):
        raise rubbish("an invoice over another amount")
    # A client pays the hash in the BOLT11 text, while we would ask about the one beside it.
    if not invoice.payment_hash == hex_of(made.r_hash) == sha256(preimage).hexdigest():
        raise rubbish("an invoice with another payment hash")
    return Invoice(invoice.payment_request, invoice.payment_hash, order.amount_sats, invoice.expires_at_ms)

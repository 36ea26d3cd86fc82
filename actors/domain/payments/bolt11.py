"""Payment requests: the content of a BOLT11 invoice, read from its text, of any node."""

from __future__ import annotations

from typing import Final

import msgspec

from ..money import MoneyError, Msat
from .bolt11_reading import InvoiceFields, read_fields

# A text much longer than any real invoice must not take seconds to decode.
_LENGTH_MAX: Final = 4_096
_SCHEME: Final = "lightning:"
# The last second of the year 9999, beyond which calendars (LNbits's among them) do not reach.
_EXPIRES_AT_MAX_S: Final = 253_402_300_799
LEFT_LEAST_MS: Final = 30_000
"""Least time that an invoice must be valid for, if it is to be paid: the payment would only fail later."""


class ReadInvoice(msgspec.Struct, frozen=True):
    """The content of an invoice.

    `payment_request` is its text in lower case, with nothing around it. From `expires_at_ms` on, wallets don't pay it.
    `currency` is its network, as the prefix names it after "ln": "bc", "tb", "tbs" or "bcrt". `description_hash`, in
    hex, stands there where the invoice has the hash of its description.
    """

    payment_request: str
    payment_hash: str
    amount_msat: Msat
    expires_at_ms: int
    currency: str
    description_hash: str | None = None


def read_invoice(payment_request: str) -> ReadInvoice:
    """Decode an invoice, and verify its checksum and signature; a "lightning:" before it is taken off.

    Raises `ValueError` for a text that is not an invoice, has no sane amount or expiry, or mixes upper and lower case.
    """
    text = normalised(payment_request)
    fields = _fields(text)
    if fields.amount_msat is None or _has_fraction(text):
        raise ValueError("an invoice without an amount in whole millisatoshis")
    if fields.amount_msat < 1:
        raise ValueError("an invoice over nothing")
    expires_at_s = fields.at_s + fields.expiry_s
    if expires_at_s > _EXPIRES_AT_MAX_S:
        raise ValueError("an invoice that outlives the calendar")
    try:
        amount_msat = Msat(fields.amount_msat)
    except MoneyError:
        raise ValueError("an invoice over more than all bitcoin") from None
    return ReadInvoice(text, fields.payment_hash, amount_msat, expires_at_s * 1_000, fields.currency, fields.memo_hash)


def description_of(payment_request: str) -> str:
    """Return an invoice's description, which may be empty. Raises `ValueError` for a text that is not an invoice."""
    return _fields(normalised(payment_request)).memo or ""


def _fields(text: str) -> InvoiceFields:
    try:
        return read_fields(text)
    except ValueError as error:
        raise ValueError(f"not a BOLT11 invoice: {error}") from None


def normalised(payment_request: str) -> str:
    """Return the text in lower case, with nothing around it. Raises `ValueError` for texts that can't be an invoice.

    QR codes hold upper case; a mixture is refused (BIP 173, "Bech32").
    """
    if len(payment_request) > _LENGTH_MAX:
        raise ValueError("longer than any invoice")
    # Some letters beyond ASCII have a lower case within ASCII, and would slip through.
    if not payment_request.isascii():
        raise ValueError("not a BOLT11 invoice: letters that none has")
    text = payment_request
    if text[: len(_SCHEME)].lower() == _SCHEME:
        text = text[len(_SCHEME) :]
    if text not in (text.lower(), text.upper()):
        raise ValueError("not a BOLT11 invoice: upper and lower case mixed")
    return text.lower()


def _has_fraction(text: str) -> bool:
    """Return True if the amount has tenths of a millisatoshi, which `InvoiceFields` cuts off (BOLT 11, "Amount")."""
    human_part = text.rpartition("1")[0]
    return human_part.endswith("p") and not human_part.endswith("0p")

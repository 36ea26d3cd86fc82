"""BOLT11 invoices: what of one counts for us, and signing our own on the stub node. The one user of the library."""

from __future__ import annotations

from typing import Final

import msgspec
from bolt11 import Bolt11, MilliSatoshi, Tag, TagChar, Tags, decode, encode
from bolt11.models.features import Feature, Features, FeatureState

from ..domain.money import MoneyError, Msat

# The library takes milliseconds for each invoice; what is much longer than any real one must not take seconds.
_LENGTH_MAX: Final = 4_096

# What wallets want to see before they pay: the onion format and the payment secret are required of them.
# Source: BOLT 9, and BOLT 11 "Feature Bits".
_FEATURES: Final = Features.from_feature_list(
    {
        Feature.var_onion_optin: FeatureState.required,
        Feature.payment_secret: FeatureState.required,
        Feature.basic_mpp: FeatureState.supported,
    }
)
# BOLT 11's default; strict readers want it spelled out.
_MIN_FINAL_CLTV_EXPIRY: Final = 18
# Bitcoin's regtest, so that no wallet with real money tries to pay.
_CURRENCY: Final = "bcrt"


class ReadInvoice(msgspec.Struct, frozen=True):
    """What an invoice says. `expires_at_ms` is when wallets stop paying it."""

    payment_hash: str
    amount_msat: Msat
    expires_at_ms: int


def read_invoice(payment_request: str) -> ReadInvoice:
    """Decodes an invoice, its checksum included. Raises `ValueError` for what is none, or has no sane amount."""
    if len(payment_request) > _LENGTH_MAX:
        raise ValueError("longer than any invoice")
    try:
        invoice = decode(payment_request)
        amount_msat, payment_hash = invoice.amount_msat, invoice.payment_hash
        expires_at_s = invoice.date + invoice.expiry
    except Exception as error:
        # From garbage the library raises its own errors and those of four libraries below it.
        raise ValueError(f"not a BOLT11 invoice: {type(error).__name__}") from None
    if amount_msat is None:
        raise ValueError("an invoice without an amount")
    try:
        return ReadInvoice(payment_hash, Msat(int(amount_msat)), expires_at_s * 1_000)
    except MoneyError:
        raise ValueError("an invoice over more than all bitcoin") from None


def sign_invoice(
    node_key: str, *, payment_hash: str, payment_secret: str, amount_msat: Msat, memo: str, at_s: int, expiry_s: int
) -> str:
    """A regtest invoice signed with `node_key`; key, hash and secret are 32 bytes in hex. Raises `ValueError`."""
    tags = [
        Tag(TagChar.payment_hash, payment_hash),
        Tag(TagChar.payment_secret, payment_secret),
        Tag(TagChar.description, memo),
        Tag(TagChar.expire_time, expiry_s),
        Tag(TagChar.min_final_cltv_expiry, _MIN_FINAL_CLTV_EXPIRY),
        Tag(TagChar.features, _FEATURES),
    ]
    invoice = Bolt11(_CURRENCY, at_s, Tags(tags), MilliSatoshi(amount_msat.value))
    return encode(invoice, node_key, strict=True)

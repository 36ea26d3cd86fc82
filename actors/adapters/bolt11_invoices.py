"""Signs BOLT11 invoices for the stub node. What an invoice says is read in `domain/payment_requests.py`."""

from __future__ import annotations

from typing import Final

from bolt11 import Bolt11, MilliSatoshi, Tag, TagChar, Tags, encode
from bolt11.models.features import Feature, Features, FeatureState

from ..domain.money import Msat

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
CURRENCY: Final = "bcrt"
"""The network: Bitcoin's regtest, so that no wallet with real money tries to pay."""


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
    invoice = Bolt11(CURRENCY, at_s, Tags(tags), MilliSatoshi(amount_msat.value))
    return encode(invoice, node_key, strict=True)

"""Texts that wallets give for an invoice, and others that people take for one."""

from __future__ import annotations

import re
from typing import Final

from .bolt11 import normalised
from .bolt11_reading import read_fields

_SCHEME: Final = re.compile(r"lightning:(?://)?", re.IGNORECASE)
_BIP21: Final = re.compile(r"bitcoin:", re.IGNORECASE)
_IN_BIP21: Final = re.compile(r"[?&]lightning=([^&]+)", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")
_ON_CHAIN: Final = re.compile(r"(?:bc1|tb1|bcrt1|[13mn2])[a-z0-9]{25,}|bitcoin:.*")


def invoice_text(given: str) -> str:
    """Return the invoice's own text: without white space, a scheme, or the BIP21 address in which it stands."""
    text = _SPACE.sub("", given)
    if _BIP21.match(text):
        found = _IN_BIP21.search(text)
        text = found[1] if found is not None else text
    return _SCHEME.sub("", text, count=1) if _SCHEME.match(text) else text


def why_no_invoice(text: str) -> str:
    """Return what a text is that can't be read as an invoice with an amount, in words for its sender."""
    if _ON_CHAIN.fullmatch(text.lower()):
        return "This is an address on the chain, not Lightning"
    try:
        if read_fields(normalised(text)).amount_msat in (None, 0):
            return "This invoice has no amount; make one over at most what is owed"
    except ValueError:
        pass
    return "Must be a BOLT11 invoice with an amount, a Lightning address or an LNURL-pay code"

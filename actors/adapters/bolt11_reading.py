"""Reads an invoice that our own node just made, without looking at its signature.

What a signature would tell is who signed, and of our node we know no public key to hold it to: whoever makes up an
invoice can sign it with a key of their own. That it comes from our node, the authenticated call says in whose answer it
stands; what it asks for is held to the order; and the wallet that pays checks the signature before it pays. An invoice
from a client is a stranger's word, and is read in `domain/payment_requests.py` with all that the library checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ..domain.payment_requests import ReadInvoice, normalised, sane_invoice
from . import bolt11_codec
from .bolt11_codec import WORD_BITS, to_number, word_of

# The network, longest names first, and the amount. As for the library, what follows the amount does not matter as long
# as it is no letter or digit.
_HUMAN_PART: Final = re.compile(r"ln(bcrt|bc|tbs|tb)(?:([0-9]+)([munp]?))?(?!\w)", re.ASCII)
_TENTHS_OF_MSAT: Final[Mapping[str, int]] = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}

_TIME_WORDS: Final = 7
_FIELD_HEAD_WORDS: Final = 3
_SIGNATURE_WORDS: Final = 104
_HASH_WORDS: Final = 52
_EXPIRY_DEFAULT_S: Final = 3_600

_HASH, _SECRET, _MEMO, _MEMO_HASH = word_of("p"), word_of("s"), word_of("d"), word_of("h")
_EXPIRY, _CLTV_EXPIRY, _FALLBACK = word_of("x"), word_of("c"), word_of("f")
# BOLT 11: one of these with another length is skipped.
_LENGTHS: Final[Mapping[int, int]] = {_HASH: _HASH_WORDS, _SECRET: _HASH_WORDS, _MEMO_HASH: _HASH_WORDS}
_NEVER_EMPTY: Final = (_EXPIRY, _CLTV_EXPIRY, _FALLBACK)


class InvoiceFields(msgspec.Struct, frozen=True):
    """What we want to know of an invoice.

    `amount_msat` is None where any amount may be paid, and has its tenths cut off. `at_s` is when the invoice was made,
    in seconds since 1970.
    """

    currency: str
    amount_msat: int | None
    payment_hash: str
    at_s: int
    expiry_s: int


def read_own_invoice(payment_request: str) -> ReadInvoice:
    """What `read_invoice` says of it, its signature unseen. Raises `ValueError` where that would."""
    text = normalised(payment_request)
    try:
        fields = read_fields(text)
    except ValueError as error:
        raise ValueError(f"not a BOLT11 invoice: {error}") from None
    return sane_invoice(text, fields.payment_hash, fields.amount_msat, fields.at_s + fields.expiry_s, fields.currency)


def read_fields(text: str) -> InvoiceFields:
    """The fields of an invoice in lower case, its checksum verified. Raises `ValueError` for what is none."""
    human_part, words = bolt11_codec.decode(text)
    human = _HUMAN_PART.match(human_part)
    if human is None:
        raise ValueError("another network, or an amount that is none")
    if len(words) < _TIME_WORDS + _SIGNATURE_WORDS:
        raise ValueError("too short")
    currency, number, letter = human.groups()
    found = _tagged(words[_TIME_WORDS:-_SIGNATURE_WORDS])
    _require(found)
    return InvoiceFields(
        currency,
        None if number is None else int(number) * _TENTHS_OF_MSAT[letter] // 10,
        _to_bytes(found[_HASH]).hex(),
        to_number(words[:_TIME_WORDS]),
        to_number(found[_EXPIRY]) if _EXPIRY in found else _EXPIRY_DEFAULT_S,
    )


def _tagged(words: bytes) -> dict[int, bytes]:
    """The words of each field by its letter. Of a field that stands twice the first counts."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(words):
        start = at + _FIELD_HEAD_WORDS
        if start > len(words):
            raise ValueError("a field that is cut off")
        letter, length = words[at], words[at + 1] * 32 + words[at + 2]
        at = start + length
        if at > len(words):
            raise ValueError("a field that is cut off")
        # A memo's text and its hash are two ways to say the same, of which also the first counts.
        again = letter in found or (letter == _MEMO and _MEMO_HASH in found)
        if not again and _LENGTHS.get(letter, length) == length:
            found[letter] = words[start:at]
    return found


def _require(found: Mapping[int, bytes]) -> None:
    """Raises `ValueError` where a wallet, or the library, would find something missing."""
    if _HASH not in found or _SECRET not in found or (_MEMO not in found and _MEMO_HASH not in found):
        raise ValueError("a hash, a secret or a description is missing")
    if any(letter in found and not found[letter] for letter in _NEVER_EMPTY):
        raise ValueError("a field that is empty")
    if _MEMO in found:
        _to_bytes(found[_MEMO]).decode()


def _to_bytes(words: bytes) -> bytes:
    """The whole bytes in these words."""
    spare = len(words) * WORD_BITS % 8
    return (to_number(words) >> spare).to_bytes(len(words) * WORD_BITS // 8, "big")

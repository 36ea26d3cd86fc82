"""BOLT11 signer of the stub node's invoices. The reader of invoices is `domain/payments/bolt11.py`.

It writes letter for letter what the library `bolt11` writes, in a fraction of the time: tests hold it to that. The
library itself needs a package that has no wheels for Python 3.14.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from btclib_secp256k1 import recovery

from ...domain.money import Msat
from ...domain.payments import bolt11_codec
from ...domain.payments.bolt11_codec import WORD_BITS, padded_bytes, to_words, word_of, words_for

CURRENCY: Final = "bcrt"
"""Network of the invoices: Bitcoin's regtest, so that no wallet with real money tries to pay."""

# BOLT 11: the seconds since 1970 have 35 bits, a field's number of words has ten.
_TIME_WORDS: Final = 7
_FIELD_WORDS_MAX: Final = 1_023
# Features that wallets want to see before they pay. The onion format and the payment secret are required of them, and a
# payment in parts is possible. Source: BOLT 9 (bits 8, 14 and 17), and BOLT 11 "Feature Bits".
_FEATURES: Final = 1 << 8 | 1 << 14 | 1 << 17
# BOLT 11's default; strict readers want it spelled out.
_MIN_FINAL_CLTV_EXPIRY: Final = 18
# Multipliers of an amount's letter, in tenths of a millisatoshi. The largest that fits makes the shortest text.
_MULTIPLIERS: Final = (("", 10**12), ("m", 10**9), ("u", 10**6), ("n", 10**3), ("p", 1))


def sign_invoice(
    node_key: str, *, payment_hash: str, payment_secret: str, amount_msat: Msat, memo: str, at_s: int, expiry_s: int
) -> str:
    """Return a regtest invoice signed with `node_key`; key, hash and secret are 32 bytes in hex.

    Raises `ValueError`.
    """
    if at_s < 0 or at_s >> _TIME_WORDS * WORD_BITS:
        raise ValueError("a time that no invoice can have")
    if expiry_s < 1:
        raise ValueError("an expiry of less than a second")
    human_part = f"ln{CURRENCY}{_amount(amount_msat)}"
    words = b"".join(
        (
            to_words(at_s, _TIME_WORDS),
            _bytes_field("p", _32_bytes(payment_hash)),
            _bytes_field("s", _32_bytes(payment_secret)),
            _bytes_field("d", memo.encode()),
            _number_field("x", expiry_s),
            _CONSTANT_FIELDS,
        )
    )
    digest = sha256(human_part.encode() + padded_bytes(words)).digest()
    # The signature is not verified here: the invoice's reader verifies it, and a spoiled signature costs nothing.
    signature, recovery_id = recovery.sign(digest, _32_bytes(node_key), verify=False)
    return bolt11_codec.encode(human_part, words + _from_bytes(signature + bytes((recovery_id,))))


def _amount(amount_msat: Msat) -> str:
    """Return the amount as the human part has it: empty for an invoice over any amount."""
    if not amount_msat:
        return ""
    tenths = amount_msat.value * 10
    letter, multiplier = next((letter, many) for letter, many in _MULTIPLIERS if tenths % many == 0)
    return f"{tenths // multiplier}{letter}"


def _32_bytes(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != 32:
        raise ValueError("not 32 bytes in hex")
    return data


def _from_bytes(data: bytes) -> bytes:
    """Return the words of these bytes, with zeros up to the next word."""
    words = words_for(len(data) * 8)
    return to_words(int.from_bytes(data, "big") << words * WORD_BITS - len(data) * 8, words)


def _bytes_field(letter: str, data: bytes) -> bytes:
    return _field(letter, _from_bytes(data))


def _number_field(letter: str, number: int) -> bytes:
    """Return a field with a number in as few words as hold it."""
    return _field(letter, to_words(number, words_for(number.bit_length())))


def _field(letter: str, words: bytes) -> bytes:
    if len(words) > _FIELD_WORDS_MAX:
        raise ValueError("more than a field of an invoice can hold")
    return bytes((word_of(letter), *divmod(len(words), 32))) + words


_CONSTANT_FIELDS: Final = _number_field("c", _MIN_FINAL_CLTV_EXPIRY) + _number_field("9", _FEATURES)

"""Reader of a BOLT11 invoice's fields, which also verifies its checksum and signature.

Unknown fields, and known ones of a wrong length, are skipped; of a repeated field the first counts (BOLT 11,
"Requirements"). Tests check that it reads and refuses the same invoices as the library `bolt11`. The library takes
forty times as long, and needs a package that has no wheels for Python 3.14 (docs/decisions/lightning.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec
from btclib_secp256k1 import dsa, recovery

from . import bolt11_codec
from .bolt11_codec import padded_bytes, to_number, whole_bytes, word_of

# The network, longest names first, and the amount. As in the library, any character but a letter, a digit or "_" may
# follow the amount.
_HUMAN_PART: Final = re.compile(r"ln(bcrt|bc|tbs|tb)(?:([0-9]+)([munp]?))?(?!\w)", re.ASCII)
_TENTHS_OF_MSAT: Final[Mapping[str, int]] = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}

_TIME_WORDS: Final = 7
_FIELD_HEAD_WORDS: Final = 3
_SIGNATURE_WORDS: Final = 104
_HASH_WORDS: Final = 52
_PAYEE_WORDS: Final = 53
_EXPIRY_DEFAULT_S: Final = 3_600
_COMPACT_SIGNATURE_BYTES: Final = 64
_RECOVERY_ID_MAX: Final = 3

_HASH, _SECRET, _MEMO, _MEMO_HASH = word_of("p"), word_of("s"), word_of("d"), word_of("h")
_EXPIRY, _CLTV_EXPIRY, _FALLBACK, _PAYEE = word_of("x"), word_of("c"), word_of("f"), word_of("n")
# BOLT 11: one of these with another length is skipped.
_LENGTHS: Final[Mapping[int, int]] = {
    _HASH: _HASH_WORDS,
    _SECRET: _HASH_WORDS,
    _MEMO_HASH: _HASH_WORDS,
    _PAYEE: _PAYEE_WORDS,
}
_NEVER_EMPTY: Final = (_EXPIRY, _CLTV_EXPIRY, _FALLBACK)


class InvoiceFields(msgspec.Struct, frozen=True):
    """The fields of an invoice that we use.

    `amount_msat` is None where any amount may be paid, and has its tenths cut off. `at_s` is the time at which the
    invoice was made, in seconds since 1970. `memo` is None where the invoice has only its hash, `memo_hash`, in hex.
    `payee` is the public key of the node that signed, compressed, in hex.
    """

    currency: str
    amount_msat: int | None
    payment_hash: str
    at_s: int
    expiry_s: int
    memo: str | None
    payee: str
    memo_hash: str | None = None


def read_fields(text: str) -> InvoiceFields:
    """Read the fields of an invoice in lower case. Raises `ValueError` if it is not an invoice, or not signed."""
    human_part, words = bolt11_codec.decode(text)
    human = _HUMAN_PART.match(human_part)
    if human is None:
        raise ValueError("another network, or not an amount")
    if len(words) < _TIME_WORDS + _SIGNATURE_WORDS:
        raise ValueError("too short")
    currency, number, letter = human.groups()
    signed, signature = words[:-_SIGNATURE_WORDS], whole_bytes(words[-_SIGNATURE_WORDS:])
    found = _tagged(signed[_TIME_WORDS:])
    if _HASH not in found or _SECRET not in found or (_MEMO not in found and _MEMO_HASH not in found):
        raise ValueError("a hash, a secret or a description is missing")
    if any(letter in found and not found[letter] for letter in _NEVER_EMPTY):
        raise ValueError("a field that is empty")
    digest = sha256(human_part.encode() + padded_bytes(signed)).digest()
    return InvoiceFields(
        currency,
        None if number is None else int(number) * _TENTHS_OF_MSAT[letter] // 10,
        whole_bytes(found[_HASH]).hex(),
        to_number(words[:_TIME_WORDS]),
        to_number(found[_EXPIRY]) if _EXPIRY in found else _EXPIRY_DEFAULT_S,
        whole_bytes(found[_MEMO]).decode() if _MEMO in found else None,
        _signer(digest, signature, whole_bytes(found[_PAYEE]) if _PAYEE in found else None).hex(),
        whole_bytes(found[_MEMO_HASH]).hex() if _MEMO_HASH in found else None,
    )


def _tagged(words: bytes) -> dict[int, bytes]:
    """Return the words of each field by its letter. Of a repeated field the first counts."""
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
        # A memo's text and its hash are alternatives, of which the first counts, too.
        other = {_MEMO: _MEMO_HASH, _MEMO_HASH: _MEMO}.get(letter)
        again = letter in found or other in found
        if not again and _LENGTHS.get(letter, length) == length:
            found[letter] = words[start:at]
    return found


def _signer(digest: bytes, signature: bytes, payee: bytes | None) -> bytes:
    """Return the public key that signed this: the payee's, where the invoice names one. Raises `ValueError`."""
    compact, recovery_id = signature[:_COMPACT_SIGNATURE_BYTES], signature[_COMPACT_SIGNATURE_BYTES]
    if recovery_id > _RECOVERY_ID_MAX:
        raise ValueError("not a signature")
    if payee is None:
        return recovery.recover(digest, compact, recovery_id)
    if not dsa.verify(digest, payee, compact, compact=True):
        raise ValueError("not signed by the payee")
    return payee

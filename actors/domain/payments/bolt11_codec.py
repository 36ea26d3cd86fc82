"""Bech32 as BOLT11 uses it: text to five-bit words and back, with its checksum, without limits of length.

Most libraries do the same bit by bit, which costs a host more than the rest of an invoice together.
"""

from __future__ import annotations

from base64 import b32encode
from typing import Final

WORD_BITS: Final = 5
CHECKSUM_WORDS: Final = 6
_ALPHABET: Final = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
# The digits of base 32 as `base64` writes them and as `int` reads them.
_BASE64_DIGITS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_INT_DIGITS: Final = b"0123456789abcdefghijklmnopqrstuv"
_WORDS: Final = bytes(range(32))
_NO_WORD: Final = 0xFF

_WORDS_TO_LETTERS: Final = bytes.maketrans(_WORDS, _ALPHABET)
_WORDS_TO_DIGITS: Final = bytes.maketrans(_WORDS, _INT_DIGITS)
_DIGITS_TO_WORDS: Final = bytes.maketrans(_BASE64_DIGITS, _WORDS)
_LETTERS_TO_WORDS: Final = bytes(_ALPHABET.find(byte) if byte in _ALPHABET else _NO_WORD for byte in range(256))
# Bech32 allows no longer human part (BIP 173).
_HUMAN_PART_MAX: Final = 83

_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _feedback(top: int) -> int:
    """Return the value to fold back into the checksum for the five bits that are shifted out of it."""
    folded = 0
    for bit, generator in enumerate(_GENERATOR):
        if top >> bit & 1:
            folded ^= generator
    return folded


_FEEDBACK: Final = tuple(_feedback(top) for top in range(32))


def word_of(letter: str) -> int:
    """Return the five bits that a letter of the alphabet stands for."""
    return _ALPHABET.index(letter.encode())


def words_for(bits: int) -> int:
    """Return the number of words that hold so many bits."""
    return -(-bits // WORD_BITS)


def to_number(words: bytes) -> int:
    """Return the words as one number, the highest first; 0 without words."""
    return int(words.translate(_WORDS_TO_DIGITS), 32) if words else 0


def to_words(number: int, count: int) -> bytes:
    """Return the number in `count` words, the highest first. Raises `OverflowError` where it does not fit."""
    # Eight words are five bytes: the number is padded to whole fives, and the padding is cut off again.
    spare = -count % 8
    data = (number << spare * WORD_BITS).to_bytes((count + spare) * WORD_BITS // 8, "big")
    return b32encode(data).translate(_DIGITS_TO_WORDS)[:count]


def padded_bytes(words: bytes) -> bytes:
    """Return the words' bits, with zeros up to the next byte: the form in which an invoice is signed."""
    length = -(-len(words) * WORD_BITS // 8)
    return (to_number(words) << length * 8 - len(words) * WORD_BITS).to_bytes(length, "big")


def whole_bytes(words: bytes) -> bytes:
    """Return the whole bytes in these words; the bits that are left are cut off."""
    spare = len(words) * WORD_BITS % 8
    return (to_number(words) >> spare).to_bytes(len(words) * WORD_BITS // 8, "big")


def encode(human_part: str, words: bytes) -> str:
    """Encode these words as a text in lower case, with its checksum; `human_part` is lower-case ASCII."""
    checksum = _polymod(human_part, words + bytes(CHECKSUM_WORDS)) ^ 1
    return f"{human_part}1{(words + to_words(checksum, CHECKSUM_WORDS)).translate(_WORDS_TO_LETTERS).decode()}"


def decode(text: str) -> tuple[str, bytes]:
    """Decode a text in lower case into its human part, whose meaning is not checked, and its words.

    Raises `ValueError` for a text that is not Bech32, or has a wrong checksum.
    """
    human_part, _, letters = text.rpartition("1")
    if not 1 <= len(human_part) <= _HUMAN_PART_MAX or len(letters) < CHECKSUM_WORDS:
        raise ValueError("not Bech32: a part is missing, or too long")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("not Bech32: letters that it does not have")
    words = letters.encode().translate(_LETTERS_TO_WORDS)
    if _NO_WORD in words:
        raise ValueError("not Bech32: letters that it does not have")
    if _polymod(human_part, words) != 1:
        raise ValueError("not Bech32: a wrong checksum")
    return human_part, words[:-CHECKSUM_WORDS]


def _polymod(human_part: str, words: bytes) -> int:
    """Return the checksum over the human part and the words, as BIP 173 defines it."""
    human = human_part.encode()
    checksum, feedback = 1, _FEEDBACK
    for word in bytes(byte >> 5 for byte in human) + b"\0" + bytes(byte & 31 for byte in human) + words:
        checksum = (checksum & 0x1FFFFFF) << 5 ^ word ^ feedback[checksum >> 25]
    return checksum

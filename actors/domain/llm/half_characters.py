"""Mending of JSON from upstreams with bytes or escapes that stand for no character.

Programs that cut a text by its bytes, or by the units of UTF-16, send halves of characters. The rest of what they sent
is paid for, and is not lost with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

# A whole pair, half of one, or any other escape, from left to right: two backslashes are one of the text.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
_UNREADABLE: Final = rb"\ufffd"


def whole_characters(data: bytes) -> bytes:
    """Return JSON in which each half of a character is the sign for an unreadable one."""
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode(errors="replace").encode()
    if b"\\ud" not in data and b"\\uD" not in data:
        return data
    return _ESCAPE.sub(lambda found: _UNREADABLE if found["half"] else found[0], data)


def decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    """Decode JSON, mended where it can't be read as it is. Raises what `decode` raises."""
    return decoded_with_bytes(decode, data)[0]


def decoded_with_bytes(decode: Callable[[bytes], T], data: bytes) -> tuple[T, bytes]:
    """Decode JSON as `decoded` does, and return the bytes that could be read, too.

    One who reads a part of them again has to read these: the others can't be read by any decoder.
    """
    try:
        return decode(data), data
    except ValueError:
        mended = whole_characters(data)
        if mended == data:
            raise
        return decode(mended), mended

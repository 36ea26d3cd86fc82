"""Withdrawal tokens: bearer credentials for what one session or job owes, and for nothing else.

A token is the actor's id, the generation of a session's key, and a MAC over both by a key of its own. It is the same
each time, so that it need not be kept, and a QR code that was shown before stays good.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, NamedTuple

_ID_CHARS: Final = 32
_ID_BYTES: Final = 24
_GENERATION_BYTES: Final = 2
_MAC_BYTES: Final = 21
_LETTERS: Final = {"ses": b"s", "job": b"j"}
_KINDS: Final = {letter: kind for kind, letter in _LETTERS.items()}
TOKEN_CHARS: Final = 64
"""Length of a token in characters."""
_K1: Final = b"k1 "


class Withdrawal(NamedTuple):
    """The content of a token. `k1`: the word that a wallet sends back with its invoice (LUD-03)."""

    actor_id: str
    generation: int
    k1: str


def token_of(key: bytes, actor_id: str, generation: int = 0) -> str:
    """Return the token for an actor; `generation` is that of a session's key."""
    kind, _, name = actor_id.partition("_")
    content = _LETTERS[kind] + generation.to_bytes(_GENERATION_BYTES, "big") + base64.urlsafe_b64decode(name)
    return base64.urlsafe_b64encode(content + _mac(key, content)).decode()


def read_token(keys: Sequence[bytes], token: str) -> Withdrawal | None:
    """Return the content of a token that one of these keys made; None for any other text."""
    if len(token) != TOKEN_CHARS or not token.isascii():
        return None
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    content, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    key = next((key for key in keys if hmac.compare_digest(mac, _mac(key, content))), None)
    if key is None:
        return None
    generation, name = content[1 : 1 + _GENERATION_BYTES], content[-_ID_BYTES:]
    actor_id = f"{_KINDS[content[:1]]}_{base64.urlsafe_b64encode(name).decode()}"
    k1 = hmac.digest(key, _K1 + token.encode(), hashlib.sha256).hex()
    return Withdrawal(actor_id, int.from_bytes(generation, "big"), k1)


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)[:_MAC_BYTES]

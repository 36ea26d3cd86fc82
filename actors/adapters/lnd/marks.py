"""Marks of our invoices: the preimage that we choose shows that we made the invoice, and for which actor.

Another program on the node may write any text as a description, an actor's id among it. It can't choose a preimage that
belongs to the id, as its second half is a code over the first by a key that the store holds. Before an invoice is paid,
nobody but LND and we know its preimage: the first half is random.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final

_HALF: Final = 16


def new_preimage(key: bytes, actor_id: str) -> bytes:
    """Return a preimage of 32 bytes for an invoice of this actor's."""
    random = secrets.token_bytes(_HALF)
    return random + _code(key, random, actor_id)


def is_marked(preimage: bytes, key: bytes, actor_id: str) -> bool:
    """Return whether an invoice with this preimage was made for this actor."""
    return hmac.compare_digest(preimage[_HALF:], _code(key, preimage[:_HALF], actor_id))


def _code(key: bytes, random: bytes, actor_id: str) -> bytes:
    return hmac.digest(key, b"satmeter invoice\n" + random + actor_id.encode(), sha256)[:_HALF]

"""Ids of invoices that name no actor: a code by a key of the store shows which store made the invoice.

Another store's server writes ids of the same form at the same node. A stranger who has invoices made at a shared wallet
writes any text; an id that was shown in an invoice can be copied. So an id says no more than "not of this store": what
an invoice is credited to, the store's bindings and journals say.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final

from ...domain.payments.invoices import MADE_AHEAD

UNNAMED: Final = f"{MADE_AHEAD}_"
"""Beginning of an id that names no actor."""
_CODE_CHARS: Final = 16


def new_random() -> str:
    """Return the random part of an id, which a process may use for all of its invoices."""
    return secrets.token_hex(16)


def invoice_id(key: bytes, random: str) -> str:
    """Return the id with this random part."""
    return f"{UNNAMED}{random}{_code(key, random)}"


def is_of(key: bytes, named: str) -> bool:
    """Return whether an id was made with this key."""
    random, code = named.removeprefix(UNNAMED)[:-_CODE_CHARS], named[-_CODE_CHARS:]
    return named.startswith(UNNAMED) and hmac.compare_digest(code.encode(), _code(key, random).encode())


def _code(key: bytes, random: str) -> str:
    return hmac.digest(key, b"satmeter invoice id\n" + random.encode(), sha256).hex()[:_CODE_CHARS]

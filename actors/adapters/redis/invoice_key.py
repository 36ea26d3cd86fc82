"""Key by which invoices at a node that keeps only a description are told from those of other programs. One for all.

    satmeter:invoice_key   32 random bytes, made with the first invoice

The store confirms it as durably as it confirms a journal's events; see `durability.py`.
"""

from __future__ import annotations

import secrets

from redis.asyncio import Redis

from .guard import guarded
from .keys import INVOICE_KEY

_KEY_BYTES = 32


class RedisInvoiceKey:
    """Reader and maker of the key, which is never changed."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self) -> bytes | None:
        """Return the key; None where no invoice was made yet. Raises `TransientError`."""
        found: bytes | None = await guarded(self._redis.get(INVOICE_KEY))
        return found

    async def made(self) -> bytes:
        """Return the key, and make it where there is none. Raises `TransientError`."""
        key = secrets.token_bytes(_KEY_BYTES)
        former: bytes | None = await guarded(self._redis.set(INVOICE_KEY, key, nx=True, get=True))
        return key if former is None else former

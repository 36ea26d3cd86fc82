"""Owners of the invoices that were made ahead, in Redis or Valkey. A key for each.

    satmeter:invoice:<payment hash>   the actor's id, or "-" for an invoice that was paid while it was unowned

An actor's key is written once, before a client sees the invoice. It expires by itself, unless the invoice was paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from .guard import guarded
from .keys import invoice_key

_NOBODY: Final = b"-"


class RedisBindings:
    """Implementation of `Bindings`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        """Make an invoice this actor's (see `Bindings`). Raises `TransientError`, after which the owner is unknown."""
        return bool(await guarded(self._redis.set(invoice_key(payment_hash), actor_id, nx=True, px=keep_ms)))

    async def owners_of_paid(self, payment_hashes: Sequence[str]) -> Mapping[str, str | None]:
        """Return the owners of these paid invoices (see `Bindings`). Raises `TransientError`."""
        # MGET would not do: on Redis Cluster these keys are on different servers.
        async with self._redis.pipeline(transaction=False) as pipe:
            for payment_hash in payment_hashes:
                # An owner that is there stays. A missing one must not come any more: its invoice could not be paid
                # again.
                pipe.set(invoice_key(payment_hash), _NOBODY, nx=True, get=True)
                pipe.persist(invoice_key(payment_hash))
            answers = await guarded(pipe.execute())
        known = zip(payment_hashes, answers[::2], strict=True)
        return {
            payment_hash: None if owner is None else owner.decode() for payment_hash, owner in known if owner != _NOBODY
        }

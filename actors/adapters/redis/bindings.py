"""Owners of the invoices that were made ahead, in Redis or Valkey. A key for each.

    satmeter:invoice:<payment hash>   the actor's id, or "-" for an invoice that was paid while it was unowned

An actor's key is written once, before a client sees the invoice. It expires by itself, unless the invoice was paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ...ports import TransientError

_NOBODY: Final = b"-"


class RedisBindings:
    """Implementation of `Bindings`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        """Make an invoice this actor's (see `Bindings`). Raises `TransientError`, after which the owner is unknown."""
        try:
            return bool(await self._redis.set(_key(payment_hash), actor_id, nx=True, px=keep_ms))
        except (RedisError, OSError) as error:
            raise _down(error) from None

    async def owners_of_paid(self, payment_hashes: Sequence[str]) -> Mapping[str, str | None]:
        """Return the owners of these paid invoices (see `Bindings`). Raises `TransientError`."""
        try:
            # MGET would not do: on Redis Cluster these keys are on different servers.
            async with self._redis.pipeline(transaction=False) as pipe:
                for payment_hash in payment_hashes:
                    # An owner that is there stays. A missing one must not come any more: its invoice could not be paid
                    # again.
                    pipe.set(_key(payment_hash), _NOBODY, nx=True, get=True)
                    pipe.persist(_key(payment_hash))
                answers = await pipe.execute()
        except (RedisError, OSError) as error:
            raise _down(error) from None
        known = zip(payment_hashes, answers[::2], strict=True)
        return {
            payment_hash: None if owner is None else owner.decode() for payment_hash, owner in known if owner != _NOBODY
        }


def _key(payment_hash: str) -> str:
    return f"satmeter:invoice:{payment_hash}"


def _down(error: Exception) -> TransientError:
    return TransientError(f"the store of invoices' owners did not answer: {type(error).__name__}")

"""Owners of payouts at nodes that keep nothing of ours with a payment, in Redis or Valkey. A key for each, for good.

    satmeter:payout:<payment hash>   the actor's id

The store confirms a claim as durably as it confirms a journal's events; see `durability.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from .guard import guarded
from .keys import payout_key


class RedisPayoutOwners:
    """Implementation of `PayoutOwners`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def claim(self, payment_hash: str, actor_id: str) -> str:
        """Claim a payment hash, unless another actor has (see `PayoutOwners`). Raises `TransientError`."""
        owner: bytes | None = await guarded(self._redis.set(payout_key(payment_hash), actor_id, nx=True, get=True))
        return actor_id if owner is None else owner.decode()

    async def owners_of(self, payment_hashes: Sequence[str]) -> Mapping[str, str]:
        """Return who claimed these payment hashes (see `PayoutOwners`). Raises `TransientError`."""
        if not payment_hashes:
            return {}
        # MGET would not do: on Redis Cluster these keys are on different servers.
        async with self._redis.pipeline(transaction=False) as pipe:
            for payment_hash in payment_hashes:
                pipe.get(payout_key(payment_hash))
            owners: list[bytes | None] = await guarded(pipe.execute())
        known = zip(payment_hashes, owners, strict=True)
        return {payment_hash: owner.decode() for payment_hash, owner in known if owner is not None}

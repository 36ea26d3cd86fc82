"""The simulator's membership is held to the real one: whatever servers do, both say the same."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.partitioning import Placement
from satmeter.actors.placement.membership import ClusterView, Membership
from satmeter.scripts.simulation.store.membership import MembershipData
from tests.helpers.membership import CLUSTER, membership, server, silence

SERVERS = [server("one"), server("two", "node-b"), server("three", "node-c", cpus=1)]
_KEYS = f"satmeter:{{cluster}}:{CLUSTER}:"


def _unordered(answer: Any) -> Any:
    """The silent are in the order in which they fell silent, for the real store to the millisecond."""
    return replace(answer, silent=sorted(answer.silent)) if isinstance(answer, ClusterView) else answer


class Both:
    """Does the same to both, and compares."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.now_ms = 0
        self.real: Membership = membership(redis)
        self.simulated = MembershipData(lambda: self.now_ms)

    async def do(self, name: str, *args: Any) -> None:
        call: Callable[..., Awaitable[Any]] = getattr(self.real, name)
        assert _unordered(await call(*args)) == _unordered(getattr(self.simulated, name)(*args)), (name, args)
        assert await self.real.placement() == self.simulated.placement

    async def later(self, seconds: int) -> None:
        """More than the lease of who leads, and never just as long as it takes to be silent, or forgotten."""
        self.now_ms += seconds * 1_000
        for one in SERVERS:
            if await self.redis.zscore(f"{_KEYS}seen", one.server_id) is not None:
                await silence(self.redis, one.server_id, seconds)
        await self.redis.delete(f"{_KEYS}lead")


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_servers_do_both_say_the_same(redis: Redis, seed: int) -> None:
    both, chance = Both(redis), random.Random(seed)
    for _ in range(150):
        one = chance.choice(SERVERS)
        version = both.simulated.placement.version + chance.choice([1, 1, 1, 0, 2])
        plan = Placement(version, ("host-0",), (one.server_id,), (), 6.0)
        match chance.choice(["beat", "beat", "beat", "leaving", "publish", "leave", "want", "view", "later"]):
            case "beat":
                await both.do("beat", one)
            case "leaving":
                await both.do("beat", replace(one, leaving=True))
            case "publish":
                await both.do("publish", one.server_id, plan)
            case "leave":
                await both.do("leave", one.server_id)
            case "want":
                await both.do("want_hosts", chance.choice([None, 1, 4]))
            case "view":
                await both.do("view")
            case "later":
                await both.later(chance.choice([7, 14, 49]))

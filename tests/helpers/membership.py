"""The cluster's membership in the store, whose clock a test moves on by making what stands there older."""

from __future__ import annotations

from redis.asyncio import Redis

from satmeter.actors.adapters.redis.membership import RedisMembership
from satmeter.actors.placement.membership import Server

CLUSTER = "ray-a"
_KEYS = f"satmeter:{{cluster}}:{CLUSTER}:"


def server(
    server_id: str, node_id: str = "node-a", *, cpus: int = 2, key: str = "key", leaving: bool = False
) -> Server:
    """A server's own account of itself."""
    return Server(server_id, node_id, f"{server_id}:8402", cpus, key, leaving)


def membership(redis: Redis, cluster: str | None = CLUSTER) -> RedisMembership:
    """The membership of a Ray cluster."""
    return RedisMembership(redis, cluster)


async def lapse(redis: Redis) -> None:
    """The leader has not been heard of for as long as its lease runs."""
    assert await redis.pttl(f"{_KEYS}lead") > 0
    await redis.delete(f"{_KEYS}lead")


async def silence(redis: Redis, server_id: str, seconds: int) -> None:
    """A server was last heard of so long before it was."""
    await redis.zincrby(f"{_KEYS}seen", -seconds * 1_000, server_id)

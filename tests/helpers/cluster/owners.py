"""Owners of partitions, by the store's word, and the log of a former owner when it learns that it is one."""

from __future__ import annotations

from redis import Redis

from satmeter.actors.partitioning import PARTITIONS, partition_of
from tests.helpers.cluster.disks import seen
from tests.helpers.served import Served


def owners(server: Served) -> set[str]:
    """The hosts that own partitions."""
    with _store(server) as redis:
        return {owner for owner in redis.mget(f"satmeter:{{p{i:04d}}}:owner" for i in range(PARTITIONS)) if owner}


def owner_of(server: Served, actor_id: str) -> str:
    """The host that owns an actor."""
    with _store(server) as redis:
        return str(redis.get(f"satmeter:{{p{partition_of(actor_id):04d}}}:owner"))


def epoch_of(server: Served, actor_id: str) -> int:
    """Return the epoch that a writer to an actor must know."""
    with _store(server) as redis:
        return int(redis.get(f"satmeter:{{p{partition_of(actor_id):04d}}}:epoch"))


def knows_of_its_loss(log: str) -> bool:
    """Refused by the store, or having looked there first."""
    return "fenced" in log or "partitions_taken_over" in log


def _store(server: Served) -> Redis:
    socket = seen(server, server.data_dir / "store" / "valkey.sock")
    return Redis(unix_socket_path=str(socket), decode_responses=True)

"""Which host owns which actor: an id hashes to a partition, and rendezvous hashing gives each partition a host."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

PARTITIONS: Final = 1_024


def partition_of(actor_id: str) -> int:
    """The partition of an actor. Stored keys depend on it: it must never change."""
    return zlib.crc32(actor_id.encode()) % PARTITIONS


def owner_of(partition: int, host_ids: Sequence[str]) -> str:
    """The host with the highest score for this partition: when hosts come or go, only their share moves.

    Raises `ValueError` without hosts.
    """
    return max(host_ids, key=lambda host_id: _score(partition, host_id))


def owned_by(host_id: str, host_ids: Sequence[str]) -> list[int]:
    """All partitions of a host."""
    return [partition for partition in range(PARTITIONS) if owner_of(partition, host_ids) == host_id]


def _score(partition: int, host_id: str) -> bytes:
    return blake2b(f"{partition}:{host_id}".encode(), digest_size=8).digest()

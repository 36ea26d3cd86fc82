"""Partitions of actors and their hosts: an id hashes to a partition, and rendezvous hashing gives each a host."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

PARTITIONS: Final = 1_024


class Placement(msgspec.Struct, frozen=True):
    """Plan that hosts follow: `members` share all partitions, `others` exist, or may, and are to own none.

    A higher `version` replaces a lower one. `away`: hosts that did not answer, so that it is of no use to ask them for
    what they own. `patience_s`: how long a host that gives a partition away may wait for what is under way in it. The
    plan says where partitions are to be; the store says where they are (`Journal.owners`).
    """

    version: int
    members: tuple[str, ...]
    others: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    patience_s: float = 0.0


NO_PLACEMENT: Final = Placement(0, ())


def partition_of(actor_id: str) -> int:
    """Return the partition of an actor. Stored keys depend on it: it must never change."""
    return zlib.crc32(actor_id.encode()) % PARTITIONS


def owner_of(partition: int, host_ids: Sequence[str]) -> str:
    """Return the host with the highest score for this partition: when hosts come or go, only their share moves.

    Raises `ValueError` without hosts.
    """
    return max(host_ids, key=lambda host_id: _score(partition, host_id))


def owned_by(host_id: str, host_ids: Sequence[str]) -> list[int]:
    """Return all partitions that a host is to have; none for one that is not among the hosts."""
    if host_id not in host_ids:
        return []
    return [partition for partition in range(PARTITIONS) if owner_of(partition, host_ids) == host_id]


def _score(partition: int, host_id: str) -> bytes:
    return blake2b(f"{partition}:{host_id}".encode(), digest_size=8).digest()

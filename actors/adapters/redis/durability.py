"""Durability of a store: whether its append-only file is on disk before a write is confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from .cluster_client import ClusterRedis
from .guard import store_errors

_FSYNC: Final = "appendfsync"
_REWRITE: Final = "no-appendfsync-on-rewrite"


class Loss(StrEnum):
    """Reason why a store may lose what it has confirmed. All but `NO_FILE` can be allowed by their name.

    everysec: about the last second, with the machine. no: what the system has not written yet. rewrite: the same while
    the file is rewritten. unknown: the store does not tell its configuration.
    """

    NO_FILE = "no-file"
    EVERYSEC = "everysec"
    NO = "no"
    REWRITE = "rewrite"
    UNKNOWN = "unknown"


async def loss_of(node: Redis, info: Mapping[str, Any] | None = None) -> Loss | None:
    """Return the loss that one server may suffer, or None. `info` is its answer to INFO.

    Raises `RedisError`, `OSError`.
    """
    # Stores that only speak the protocol may leave it out of their answer.
    enabled = (info or await node.info("persistence")).get("aof_enabled")
    if enabled is None:
        return Loss.UNKNOWN
    if not enabled:
        return Loss.NO_FILE
    try:
        told: Mapping[Any, Any] = {**await node.config_get(_FSYNC), **await node.config_get(_REWRITE)}
    except ResponseError:
        return Loss.UNKNOWN  # Hosted stores often refuse CONFIG, and so may an ACL.
    found = {_text(name): _text(value) for name, value in told.items()}
    match found.get(_FSYNC):
        case "always":
            return Loss.REWRITE if found.get(_REWRITE) == "yes" else None
        case "everysec":
            return Loss.EVERYSEC
        case "no":
            return Loss.NO
    return Loss.UNKNOWN


async def store_losses(client: Redis) -> dict[str, Loss]:
    """Return the loss that each server that takes writes may suffer, by its address; "" for the only one.

    Raises `TransientError`.
    """
    with store_errors():
        nodes = (
            {str(address): node for address, node in (await client.primaries()).items()}
            if isinstance(client, ClusterRedis)
            else {"": client}
        )
        found = {address: await loss_of(node) for address, node in nodes.items()}
    return {address: loss for address, loss in found.items() if loss is not None}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

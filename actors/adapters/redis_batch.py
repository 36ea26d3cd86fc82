"""Many commands in one round trip, for a fraction of what the library's pipeline costs.

The library packs commands in Python, sets a time-out for each answer and starts a task for each write; for an append to
a journal that is more than all else that a host does for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

Words = tuple[str | bytes | int, ...]
"""A command as the packer takes it."""


class Batches:
    """One connection of the client's pool, kept for one batch after the other; it ends with the pool."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        self._pool = redis.connection_pool
        self._timeout_s = timeout_s
        self._connection: AbstractConnection | None = None

    async def send(self, commands: Sequence[Words]) -> list[Any]:
        """The answers to all commands, in order; an error that the store answers with is one of them.

        Raises `RedisError` or `OSError` (a time-out is one) when the connection breaks or the store is silent: each
        command may then have been carried out or not.
        """
        async with asyncio.timeout(self._timeout_s):
            connection = await self._connected()
            # hiredis declares tuples of one word, and takes any.
            packed = [hiredis.pack_command(words) for words in commands]  # type: ignore[arg-type]
            await connection.send_packed_command(b"".join(packed))
            return [await _answer(connection) for _ in commands]

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            # There is one time-out, around all of a batch.
            self._connection.socket_timeout = None
        else:
            # Connects anew after an error: the library ends a connection that was given up with answers on the way, so
            # that nobody reads them for theirs.
            await self._pool.ensure_connection(self._connection)
        return self._connection


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error

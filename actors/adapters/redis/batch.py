"""Batches of commands in one round trip, for a fraction of what the library's pipeline costs.

The library packs commands in Python, sets a time-out for each answer and starts a task for each write. For an append to
a journal that is more than all other work that a host does for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from ....config.log_context import in_background
from .cluster_client import ClusterRedis

Words = tuple[str | bytes | int, ...]
"""Command as the packer takes it."""


class Batches:
    """Connection of the client's pool, kept for one batch after the other; it ends with the pool."""

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        self._pool = redis.connection_pool
        self._timeout_s = timeout_s
        self._connection: AbstractConnection | None = None

    async def send(self, commands: Sequence[Words]) -> list[Any]:
        """Return the answers to all commands, in order; an error that the store answers with is one of them.

        Raises `RedisError` or `OSError` (a time-out is one) when the connection breaks or the store is silent: each
        command may then have been carried out or not.
        """
        async with asyncio.timeout(self._timeout_s):
            connection = await self._connected()
            # hiredis declares tuples of one word, and takes any.
            packed = [hiredis.pack_command(words) for words in commands]  # type: ignore[arg-type]
            await connection.send_packed_command(b"".join(packed))
            answers = [await _answer(connection) for _ in commands]
            if connection.should_reconnect():  # type: ignore[no-untyped-call]
                # An answer said that this may no longer be the primary.
                await connection.disconnect()
            return answers

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            # A whole batch has one time-out, set in `send`.
            self._connection.socket_timeout = None
        else:
            # This reconnects after an error. The library ends a connection that was given up with answers on the way,
            # so that no caller takes them for its own.
            await self._pool.ensure_connection(self._connection)
        return self._connection


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


class Grouped:
    """Groups of commands: those that come while others are on their way share the next round trip.

    On a cluster, each command has its own.
    """

    def __init__(self, redis: Redis, timeout_s: float) -> None:
        self._redis = redis
        self._batches = None if isinstance(redis, ClusterRedis) else Batches(redis, timeout_s)
        self._waiting: list[tuple[Words, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def run(self, *words: str | bytes | int) -> Any:
        """Return the store's answer. Raises an error that the store answers with, and as `Batches.send` does."""
        if self._batches is None:
            return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((words, future))
        if self._sender is None:
            self._sender = in_background(self._send(self._batches))
        return await future

    async def _send(self, batches: Batches) -> None:
        batch: list[tuple[Words, asyncio.Future[Any]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    answers = await batches.send([words for words, _ in batch])
                except (RedisError, OSError) as error:
                    answers = [error] * len(batch)
                for (_, future), answer in zip(batch, answers, strict=True):
                    _settle(future, answer)
        finally:
            self._sender = None
            # When this task is cut off, no caller must wait for ever.
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting = []


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)

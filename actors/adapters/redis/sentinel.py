"""Sentinel client, which finds the primary that sentinels watch, and finds it again after each failover."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.exceptions import ConnectionError as NotConnectedError
from redis.exceptions import NoPermissionError, ResponseError

_NO_REPLICAS = "NOREPLICAS"


class _ToPrimary(SentinelManagedConnection):
    """Connection to the primary that the sentinels name. The library ends it when a replica refuses a write."""

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health=check_health)
        # A sentinel that was cut off may name a former primary, which would answer reads with outdated values.
        await self.send_command("ROLE")
        try:
            role = await self.read_response()
        except NoPermissionError:
            return
        if role[0] not in (b"master", "master"):
            raise NotConnectedError("the sentinels name a server that is not the primary (yet)")

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            # This primary was cut off from its replicas: another one may have taken its place, so ask again.
            if str(error).startswith(_NO_REPLICAS):
                self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise


class _ToPrimaryByTls(_ToPrimary, SentinelManagedSSLConnection):
    pass


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connection pool to the primary. Like the pool for a single server it waits for a free one."""

    _asked: asyncio.Task[Any] | None = None

    @classmethod
    def over(cls, url: str, master: str, sentinels: Sequence[Redis], options: Mapping[str, Any]) -> SentinelPool:
        """Return a pool for the primary of that name; `url` gives everything but its address."""
        kwargs: dict[str, Any] = {**options, **parse_url(url)}
        tls = "connection_class" in kwargs
        manager = Sentinel([])  # type: ignore[no-untyped-call]
        manager.sentinels = list(sentinels)
        for name in ("host", "port"):
            kwargs.pop(name, None)
        kwargs["connection_class"] = _ToPrimaryByTls if tls else _ToPrimary
        return cls(master, manager, **kwargs)

    async def get_master_address(self) -> Any:
        """Return the primary's present address.

        All that ask at the same time share one answer: a failover makes many ask.
        """
        if self._asked is None:
            self._asked = asyncio.create_task(super().get_master_address())  # type: ignore[no-untyped-call]
            self._asked.add_done_callback(self._answered)
        return await asyncio.shield(self._asked)

    def _answered(self, asked: asyncio.Task[Any]) -> None:
        self._asked = None
        if not asked.cancelled():
            asked.exception()  # All callers may be gone; asyncio must not warn of an unretrieved error then.

    async def aclose(self) -> None:
        """End all connections, those to the sentinels too."""
        await super().aclose()
        await self.sentinel_manager.aclose()

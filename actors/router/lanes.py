"""Lanes of a router to its hosts, and the search for the one to an actor's host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from ..domain.errors import RefusedError, unavailable
from ..host_link import HostLink
from ..ports import TransientError
from .lane import Lane
from .routing_table import Owners, RoutingTable

_MOVED_PAUSE_S: Final = 0.05


class Lanes:
    """Lanes, one for each host, made when they are needed."""

    def __init__(self, owners: Owners, connect: Callable[[str], HostLink]) -> None:
        self.routing = RoutingTable(owners)
        self._connect = connect
        self._lanes: dict[str, Lane] = {}

    def to_host(self, host_id: str) -> Lane:
        """Return the lane to a host."""
        lane = self._lanes.get(host_id)
        if lane is None:
            lane = self._lanes[host_id] = Lane(host_id, self._connect(host_id), self.routing)
        return lane

    def known(self, actor_id: str) -> Lane | None:
        """Return the lane to the actor's host as of the last look; None without one."""
        host_id = self.routing.host_of(actor_id)
        return None if host_id is None else self.to_host(host_id)

    async def to_actor(self, actor_id: str, deadline_s: float) -> Lane:
        """Return the lane to the actor's host.

        Waits for a host to take the actor over; raises `RefusedError` when none does.
        """
        while (lane := self.known(actor_id)) is None:
            if asyncio.get_running_loop().time() >= deadline_s:
                raise RefusedError(unavailable("The actor's host"))
            try:
                await self.routing.look()
            except TransientError:
                raise RefusedError(unavailable("The store")) from None
            if self.routing.host_of(actor_id) is None:
                await asyncio.sleep(_MOVED_PAUSE_S)
        return lane

    async def look_again(self, actor_id: str, lane: Lane) -> None:
        """Find out where an actor is that is no longer where it was."""
        if self._lanes.get(self.routing.host_of(actor_id) or "") is not lane:
            return  # Another caller has found out already.
        with contextlib.suppress(TransientError):
            await self.routing.look()
        if self._lanes.get(self.routing.host_of(actor_id) or "") is lane:
            # The actor is on its way, and will be there in a moment; or the store has lost the owners.
            await asyncio.sleep(_MOVED_PAUSE_S)

    async def close(self) -> None:
        """End all traffic."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

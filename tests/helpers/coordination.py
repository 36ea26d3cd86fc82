"""A coordinator with its time in a test's hands, and a store that fails it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis

from satmeter.actors.partitioning import Placement
from satmeter.actors.placement.coordinator import Coordinator
from satmeter.actors.placement.membership import ClusterView, Membership, Server
from satmeter.actors.ports import TransientError
from tests.helpers.membership import membership
from tests.helpers.process_managers import PlayedProcessManager


class Stage:
    """A coordinator whose time a test moves on."""

    def __init__(
        self, redis: Redis, processes: PlayedProcessManager, own: Server, over: Membership | None = None
    ) -> None:
        self.processes = processes
        self.now_s = 100.0
        self.pauses: list[float] = []
        self._next = asyncio.Event()
        self.coordinator = Coordinator(
            own, over or membership(redis), processes, clock=lambda: self.now_s, pause=self._pause
        )

    async def _pause(self, duration_s: float) -> None:
        self.pauses.append(duration_s)
        self._next.clear()
        await self._next.wait()

    def go_on(self) -> None:
        """Ends the coordinator's pause."""
        self._next.set()

    async def steps(self, count: int) -> None:
        """So many steps, one after the other."""
        for _ in range(count):
            await self.coordinator.step()

    @property
    def plan(self) -> Placement:
        """The plan as the coordinator knows it."""
        return self.coordinator.view.placement

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Lets it run by itself."""
        task = asyncio.create_task(self.coordinator.run())
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class FailingMembership:
    """A membership whose store is away for a while. Implements what a coordinator asks of `Membership`."""

    def __init__(self, real: Membership) -> None:
        self.down = False
        self.defect: Exception | None = None
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    async def beat(self, own: Server) -> ClusterView:
        if self.defect is not None:
            raise self.defect
        if self.down:
            raise TransientError("away")
        return await self._real.beat(own)

"""Holds the server to a promise: who asks is answered, or told that it is not known, within a bounded time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from ..loop import Process, present
from ..world import World

T = TypeVar("T")
# Eight seconds for a host, twenty for an actor's own process that died, and what the store and the links take.
WITHIN_S: Final = 45.0


@dataclass(eq=False)
class Work:
    """What the model does, by the label of the request that it is for: its time is no delay of the server's."""

    world: World
    _under_way: defaultdict[str, list[Process | None]] = field(default_factory=lambda: defaultdict(list))
    _seen_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, label: str) -> Iterator[None]:
        """While the model works. A process that stands still is not waiting for it."""
        process = present()
        self._under_way[label].append(process)
        try:
            yield
        finally:
            self._under_way[label].remove(process)
            self._seen_s[label] = self.world.loop.time()

    def last_s(self, label: str) -> float:
        """When the model last worked for this request; now, if it does."""
        if any(process is None or process.runs for process in self._under_way.get(label, ())):
            return self.world.loop.time()
        return self._seen_s.get(label, 0.0)


class OverdueError(Exception):
    """No answer came within the time that is promised."""


@dataclass(eq=False)
class Waiting:
    """Waits as clients do who hold the server to its word."""

    world: World
    work: Work

    async def answer(self, asked: Coroutine[Any, Any, T], what: str, label: str = "") -> T:
        """What was asked for. Raises `OverdueError`, once that is told."""
        task = asyncio.ensure_future(asked)
        try:
            await self.until_done(task, what, label)
            return task.result()
        finally:
            task.cancel()

    async def until_done(self, future: asyncio.Future[Any], what: str, label: str = "") -> None:
        """Returns when it is done. Raises `OverdueError`, once that is told."""
        since_s = self.world.loop.time()
        while not future.done():
            left_s = since_s + WITHIN_S - self.world.loop.time()
            if left_s <= 0:
                self.world.violate(f"{what} is not answered within {WITHIN_S:.0f} s")
                raise OverdueError(what)
            await asyncio.wait([future], timeout=left_s)
            if label:
                since_s = max(since_s, self.work.last_s(label))

"""Bounded waiting: the server must answer each caller in time, if only with an unknown outcome."""

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
# The sum of eight seconds for a host, twenty for a dead process of an actor, and the time of store and links.
WITHIN_S: Final = 45.0


@dataclass(eq=False)
class Work:
    """Work of the model, by the label of its request. The model's time does not count as a delay of the server."""

    world: World
    _under_way: defaultdict[str, list[Process | None]] = field(default_factory=lambda: defaultdict(list))
    _seen_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, label: str) -> Iterator[None]:
        """Mark the model as working while the block runs. A process that stands still does not wait for it."""
        process = present()
        self._under_way[label].append(process)
        try:
            yield
        finally:
            self._under_way[label].remove(process)
            self._seen_s[label] = self.world.loop.time()

    def last_s(self, label: str) -> float:
        """Return when the model last worked for this request; now, if it does."""
        if any(process is None or process.runs for process in self._under_way.get(label, ())):
            return self.world.loop.time()
        return self._seen_s.get(label, 0.0)


class OverdueError(Exception):
    """An answer that did not come within the promised time."""


@dataclass(eq=False)
class Waiting:
    """Waiting for answers, as of clients that hold the server to its promise."""

    world: World
    work: Work

    async def answer(self, asked: Coroutine[Any, Any, T], what: str, label: str = "") -> T:
        """Return the answer. Raises `OverdueError`, after it has reported the violation."""
        task = asyncio.ensure_future(asked)
        try:
            await self.until_done(task, what, label)
            return task.result()
        finally:
            task.cancel()

    async def until_done(self, future: asyncio.Future[Any], what: str, label: str = "") -> None:
        """Wait until the future is done. Raises `OverdueError`, after it has reported the violation."""
        since_s = self.world.loop.time()
        while not future.done():
            left_s = since_s + WITHIN_S - self.world.loop.time()
            if left_s <= 0:
                self.world.violate(f"{what} is not answered within {WITHIN_S:.0f} s")
                raise OverdueError(what)
            await asyncio.wait([future], timeout=left_s)
            if label:
                since_s = max(since_s, self.work.last_s(label))

"""Answers that come in parts, as a client reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic

from ....actors.domain.behaviour import Command
from ....actors.messages import PartT, ReplyT
from ..books.waiting import WITHIN_S
from ..cluster import FrontProcess
from .common import LeftError, Market

_LOOK_EVERY_S: Final = 1.0


@dataclass(eq=False)
class Reading(Generic[ReplyT, PartT]):
    """A stream through the front that runs just now, from the first part to the last, unless its reader leaves."""

    market: Market
    actor_id: str
    command: Command[ReplyT, PartT]
    waits_since_s: Callable[[], float]
    """Time since which the reader waits for a further part that is due; now, while none is."""
    _said: asyncio.Queue[ReplyT | PartT] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self._front: FrontProcess = self.market.front()
        self._task = self._front.stream(self.actor_id, self.command, self._said)

    async def next(self) -> ReplyT | PartT:
        """Return the next part. Raises what the stream ends with; `LeftError` when its front dies, or nothing comes."""
        world = self.market.world
        came_s = world.loop.time()
        while self._said.empty():
            if self._task.done():
                self._task.result()
                raise LeftError
            if not self._front.process.alive:
                raise LeftError
            # By a clock that was ahead, the next attempt is due so much later.
            within_s = WITHIN_S + world.clocks_ahead_s
            if world.loop.time() - max(came_s, self.waits_since_s()) > within_s:
                what = f"{self.actor_id}: the reader of {type(self.command).__name__}"
                world.violate(f"{what} is told nothing for {within_s:.0f} s")
                raise LeftError
            waiting = asyncio.ensure_future(self._said.get())
            try:
                await asyncio.wait([waiting, self._task], timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    return waiting.result()
            finally:
                waiting.cancel()
        return self._said.get_nowait()

    def leave(self) -> None:
        """Let the reader go away."""
        self._task.cancel()

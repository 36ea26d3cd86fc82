"""A process with room for one actor, as the host that started it sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from .inbox import AnyReply, Caller
from .router import HostLink, Lane, LinkError, NoHostError
from .whereabouts import Whereabouts

_ANSWERS_WITHIN_S: Final = 2.0
# How long a call waits for a process that died: nobody else can serve the actor meanwhile.
_PATIENCE_S: Final = 20.0


class Solo(HostLink, Protocol):
    """A process with room for one actor: an `ActorHost` that serves nothing else."""

    async def occupied(self) -> bool | None:
        """Whether it has something under way; None when the actor is not even in its memory. Raises `LinkError`."""
        ...


class Room:
    """An actor's process as its host sees it, and the calls that wait in it.

    `occupied` is what the process last said of itself, True as long as it has said nothing. `gone`: it could not be
    started, or has been ended by somebody else, and will not come back.
    """

    def __init__(self, actor_id: str, start: Callable[[], Awaitable[Solo]]) -> None:
        self.actor_id = actor_id
        self.calls: dict[asyncio.Task[None], Caller] = {}
        self.used_s = time.monotonic()
        self.occupied: bool | None = True
        self.gone = False
        self.starting = asyncio.ensure_future(start())
        self._lane: Lane | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it: nobody waits, and nothing is under way."""
        return not self.calls and not self.occupied

    @contextmanager
    def visit(self, caller: Caller) -> Iterator[None]:
        """While the present task carries a call of this caller."""
        task = asyncio.current_task()
        assert task is not None
        self.calls[task] = caller
        try:
            yield
        finally:
            self.calls.pop(task, None)
            self.used_s = time.monotonic()

    async def lane(self) -> Lane:
        """The way to the process, once it runs. Raises `LinkError`."""
        # Shielded: a caller that goes away must not end the start for those who wait with it.
        solo = await asyncio.shield(self.starting)
        if self._lane is None:
            self._lane = Lane(self.actor_id, solo, Whereabouts(self._whereabouts), _PATIENCE_S)
        return self._lane

    async def look(self) -> None:
        """Asks the process how it does."""
        if not self.starting.done() or self.starting.cancelled():
            return
        if self.starting.exception() is not None:
            self.gone = True
            return
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                self.occupied = await self.starting.result().occupied()
        except NoHostError:
            self.gone = True
        except (LinkError, TimeoutError):
            self.occupied = True  # Ray starts it again; what it had under way is then taken up.

    def turn_out(self, reply: AnyReply) -> None:
        """Gives all that wait this answer."""
        for task, caller in list(self.calls.items()):
            caller.answer(reply)
            task.cancel()

    async def close(self) -> None:
        """Ends the way to it."""
        self.starting.cancel()
        await asyncio.gather(self.starting, return_exceptions=True)
        if self._lane is not None:
            await self._lane.close()

    async def _whereabouts(self, partitions: Sequence[int]) -> Mapping[int, str]:
        """For its own host, the actor is nowhere else."""
        return dict.fromkeys(partitions, self.actor_id)

"""Process of one actor, as the host that started it sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from ..host.dispatcher import LONG_POLL_S
from ..host.replies import AnyReply, ReplyTo
from ..host_link import HostLink, LinkError, NoHostError
from ..placement.failure_detector import FailureDetector
from ..router.lane import Lane
from ..router.routing_table import RoutingTable

_ANSWERS_WITHIN_S: Final = 2.0
# A machine that starts many processes at once takes long over the last ones. One that was stopped never comes.
_STARTS_WITHIN_S: Final = 60.0
# A router asks for answers all the time, and none of its questions takes longer than `LONG_POLL_S`.
_HEARD_WITHIN_S: Final = LONG_POLL_S + 5.0
# Longest wait of a call for a process that died, or is being started. No other process can serve the actor meanwhile.
_PATIENCE_S: Final = 20.0
# A call that comes when that time is over, perhaps sent again by its router, waits so much longer.
_SOON_S: Final = 1.0


class DedicatedProcess(HostLink, Protocol):
    """Process for one actor: an `ActorHost` that serves nothing else."""

    async def occupied(self) -> bool | None:
        """Return whether the process has something under way; None when the actor is not even in its memory.

        Raises `LinkError`.
        """
        ...

    async def coming(self) -> bool:
        """Return whether the process died and is being started again, so that it can't answer yet. Raises nothing."""
        ...


class ActorProcess:
    """Process of an actor as its host sees it, and the calls that wait in it.

    `occupied` is the last answer of the process about itself, True as long as there is none. `detector`: of
    answers that it missed, though it was not being started again. `gone`: it will not come back.
    """

    def __init__(self, actor_id: str, start: Callable[[], Awaitable[DedicatedProcess]]) -> None:
        self.actor_id = actor_id
        self.calls: dict[asyncio.Task[None], ReplyTo] = {}
        self.used_s = time.monotonic()
        self.occupied: bool | None = True
        self.detector = FailureDetector()
        self.gone = False
        self._begun_s = time.monotonic()
        self.starting = asyncio.ensure_future(start())
        self._lane: Lane | None = None

    @property
    def idle(self) -> bool:
        """Return whether nothing would be lost with the process: no caller waits, and nothing is under way."""
        return not self.calls and not self.occupied

    @property
    def deserted(self) -> bool:
        """Return whether nothing is under way, and all callers came by routers that have long been silent."""
        heard_s = max((reply_to.queue.last_seen_s for reply_to in self.calls.values()), default=0.0)
        return not self.occupied and time.monotonic() - heard_s > _HEARD_WITHIN_S

    @property
    def silent(self) -> bool:
        """Return whether the process hangs, is gone for good, or could not be started, and must be replaced."""
        if not self.starting.done():
            return time.monotonic() - self._begun_s > _STARTS_WITHIN_S
        return not self._runs or self.gone or self.detector.silent

    @contextmanager
    def visit(self, reply_to: ReplyTo) -> Iterator[None]:
        """Register the present task as one that carries a call of this caller, until the context ends."""
        task = asyncio.current_task()
        assert task is not None
        self.calls[task] = reply_to
        try:
            yield
        finally:
            self.calls.pop(task, None)
            self.used_s = time.monotonic()

    async def lane(self) -> Lane:
        """Return the lane to the process, once it runs.

        Raises `LinkError`, and `TimeoutError` when the process takes long to start.
        """
        # From the beginning of the start on: a call that is sent again and again would else be put off each time.
        left_s = self._begun_s + _PATIENCE_S - time.monotonic()
        # Shielded: a caller that goes away must not end the start for the other callers.
        async with asyncio.timeout(max(left_s, _SOON_S)):
            process = await asyncio.shield(self.starting)
        if self._lane is None:
            self._lane = Lane(self.actor_id, process, RoutingTable(self._owners), _PATIENCE_S)
        return self._lane

    async def look(self) -> None:
        """Ask the process for its state."""
        if not self._runs:
            return
        process = self.starting.result()
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                self.occupied = await process.occupied()
            self.detector.answered()
        except NoHostError:
            self.gone = True
        except (LinkError, TimeoutError):
            self.occupied = True  # Its work under way is taken up when it runs again.
            if await process.coming():
                self.detector.answered()
            else:
                self.detector.missed()

    def answer_all(self, reply: AnyReply) -> None:
        """Give all that wait this answer."""
        for task, reply_to in list(self.calls.items()):
            reply_to.answer(reply)
            task.cancel()

    async def close(self) -> None:
        """End the link to the process."""
        self.starting.cancel()
        await asyncio.gather(self.starting, return_exceptions=True)
        if self._lane is not None:
            await self._lane.close()

    @property
    def _runs(self) -> bool:
        """Return whether the process has been started."""
        return self.starting.done() and not self.starting.cancelled() and self.starting.exception() is None

    async def _owners(self, partitions: Sequence[int]) -> Mapping[int, str]:
        """Return this process as the owner of all partitions: for its own host, the actor is nowhere else."""
        return dict.fromkeys(partitions, self.actor_id)

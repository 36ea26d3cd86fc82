"""An event loop on a clock of its own: time jumps to the next timer, and the processes in it can be stopped and killed.

What runs is plain asyncio. Callbacks of one process keep their order, as asyncio promises; between processes, which
share nothing, the order is drawn by lot.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar
from weakref import WeakSet

T = TypeVar("T")
_ROUNDS_MAX: Final = 50


class Chance(random.Random):
    """The only source of chance in a run, or in a part of it that has a seed of its own."""

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens now."""
        return self.random() < probability


class DiedError(Exception):
    """The process that was asked is dead, or died before it answered."""


class StuckError(Exception):
    """Nothing is ready and no timer is set: what is waited for can never come."""


class Process:
    """A process of the simulated cluster: its tasks, its wall clock's error, and whoever waits for its answers.

    One that is killed runs not a single step further, not even to clean up. A stopped one is late with everything.
    """

    def __init__(self, name: str, loop: SimulatedLoop) -> None:
        self.name = name
        self.alive = True
        self.stopped = False
        self.clock_error_ms = 0
        self.held: list[asyncio.Handle] = []
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._loop = loop
        self._context: Context = Context()
        self._context.run(_PROCESS.set, self)
        self._asked: dict[asyncio.Future[Any], None] = {}
        loop.processes.append(self)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs it in this process."""
        return self._loop.create_task(coroutine, context=self._context)

    async def ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs it in this process for a caller in another one. Raises `DiedError` when the process dies meanwhile."""
        if not self.alive:
            coroutine.close()
            raise DiedError(self.name)
        answer: asyncio.Future[T] = self._loop.create_future()
        self._asked[answer] = None

        def tell(task: asyncio.Task[T]) -> None:
            self._asked.pop(answer, None)
            if answer.done():
                _ = task.cancelled() or task.exception()
            elif task.cancelled():
                answer.set_exception(DiedError(self.name))
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        self.spawn(coroutine).add_done_callback(tell, context=self._context)
        return await answer

    def kill(self) -> None:
        """Ends it at once."""
        self.alive = False
        # Collected as garbage, its tasks would clean up after themselves.
        self._loop.remains.extend(self.tasks)
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(DiedError(self.name))
        self._asked.clear()

    def stop(self) -> None:
        """Keeps it from running, as SIGSTOP does."""
        self.stopped = True

    def go_on(self) -> None:
        """Lets it run again, with all that has come due meanwhile."""
        self.stopped = False
        if self.alive:
            held, self.held = self.held, []
            self._loop.revive(held)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def outside() -> Context:
    """A context of no process: for what goes on in the store, in the node, and on the way there."""
    context = copy_context()
    context.run(_PROCESS.set, None)
    return context


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs everything as fast as it can, on a clock that only timers move."""

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self._chance = chance
        self._now_s = 0.0
        self.processes: list[Process] = []
        self.remains: list[asyncio.Task[Any]] = []
        self.steps = 0
        # The base class names them so; its own `_run_once`, which waits for sockets, is replaced.
        self._ready: deque[asyncio.Handle]
        self._scheduled: list[asyncio.TimerHandle]

    def time(self) -> float:
        """Seconds since the beginning of the run."""
        return self._now_s

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> asyncio.Task[Any]:
        """See the base class. Each process knows its own tasks."""
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is not None:
            process.tasks.add(task)
        return task

    def end(self) -> None:
        """Has all that is left end in good order, in dead and stopped processes too: nothing of it outlives the run."""
        self.set_exception_handler(lambda _loop, _context: None)
        for process in self.processes:
            process.alive, process.stopped = True, False
            self.revive(process.held)
        self.run_until_complete(self._wind_up())
        self.remains.clear()
        self.close()

    async def _wind_up(self) -> None:
        for _ in range(_ROUNDS_MAX):
            left = [task for task in asyncio.all_tasks(self) if task is not asyncio.current_task()]
            if not left:
                break
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1)
        await self.shutdown_asyncgens()

    def revive(self, handles: list[asyncio.Handle]) -> None:
        """Has these run next."""
        self._ready.extend(handles)

    def _run_once(self) -> None:
        """Runs what is ready; when nothing is, it is the time of the next timer."""
        ready, scheduled = self._ready, self._scheduled
        if not ready:
            while scheduled and scheduled[0].cancelled():
                _unscheduled(heapq.heappop(scheduled))
            if not scheduled:
                raise StuckError("nothing is ready, and no timer is set")
            self._now_s = max(self._now_s, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now_s:
            ready.append(_unscheduled(heapq.heappop(scheduled)))
        batch = list(ready)
        ready.clear()
        for handle, process in self._in_turns(batch) if len(batch) > 1 else [(batch[0], _process_of(batch[0]))]:
            if handle.cancelled():
                continue
            if process is not None and (process.stopped or not process.alive):
                process.held.append(handle)
                continue
            self.steps += 1
            handle._run()  # noqa: SLF001 - what the base class does

    def _in_turns(self, batch: list[asyncio.Handle]) -> list[tuple[asyncio.Handle, Process | None]]:
        turns: dict[Process | None, float] = {}
        found = [(handle, _process_of(handle)) for handle in batch]
        for _, process in found:
            if process not in turns:
                turns[process] = self._chance.random()
        if len(turns) > 1:
            found.sort(key=lambda item: turns[item[1]])
        return found


def _unscheduled(handle: asyncio.TimerHandle) -> asyncio.TimerHandle:
    handle._scheduled = False  # type: ignore[attr-defined]  # noqa: SLF001
    return handle


def _process_of(handle: asyncio.Handle) -> Process | None:
    return handle._context.get(_PROCESS)  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001

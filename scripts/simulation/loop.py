"""An event loop on a clock of its own: time jumps to the next timer, and its processes can be stopped and killed.

The code that runs is plain asyncio. Callbacks of one process keep their order, as asyncio promises. Between processes,
which share nothing, the order is drawn by lot.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple
from weakref import WeakSet

T = TypeVar("T")
_Args = TypeVarTuple("_Args")
_ROUNDS_MAX: Final = 50
# A connection counts as broken when nothing comes on it for this long (`actors/transport.py`).
_SILENCE_MAX_S: Final = 4.0


class Chance(random.Random):
    """Source of chance: the only one of a run, or of a part of it that has a seed of its own."""

    def happens(self, probability: float) -> bool:
        """Return whether something of this probability happens now."""
        return self.random() < probability


class DiedError(Exception):
    """Death of the process that was asked, before it answered or before the call."""


class SilentError(Exception):
    """Standstill of the process that was asked. When it goes on, it does what it was asked to do."""


class StuckError(Exception):
    """Deadlock of the loop: nothing is ready and no timer is set, so what is awaited can never come."""


class Process:
    """A process of the simulated cluster: its tasks, its wall clock's error, and the callers that await it.

    A killed process runs not a single step further, not even to clean up. A stopped one is late with everything.
    `hosts`: whether actors run in it.
    """

    def __init__(self, name: str, loop: SimulatedLoop, *, hosts: bool = False) -> None:
        self.name = name
        self.hosts = hosts
        self.alive = True
        self.stopped = False
        self.still_until_s = 0.0
        self.clock_error_ms = 0
        self.held: list[asyncio.Handle] = []
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._loop = loop
        self._context: Context = Context()
        self._context.run(_PROCESS.set, self)
        self._asked: dict[asyncio.Future[Any], bool] = {}
        self._stops = 0
        loop.processes.append(self)

    @property
    def runs(self) -> bool:
        """Ability to run: the process is neither dead nor stopped."""
        return self.alive and not self.stopped

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run the coroutine in this process."""
        return self._loop.create_task(coroutine, context=self._context)

    async def ask(self, coroutine: Coroutine[Any, Any, T], *, patient: bool = True) -> T:
        """Run the coroutine here for a caller in another process. Raises `DiedError` when this one dies meanwhile.

        A caller that is not patient gets `SilentError` once the process has stood still for some seconds.
        """
        if not self.alive:
            coroutine.close()
            raise DiedError(self.name)
        answer: asyncio.Future[T] = self._loop.create_future()
        self._asked[answer] = patient
        if self.stopped and not patient:
            self._loop.call_later(_SILENCE_MAX_S, self._fall_silent, self._stops, answer, context=outside())

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
        """End the process at once."""
        self.alive = False
        # If its tasks were collected as garbage, they would clean up after themselves.
        self._loop.remains.extend(self.tasks)
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(DiedError(self.name))
        self._asked.clear()

    def stop(self) -> None:
        """Keep the process from running, as SIGSTOP does."""
        self.stopped = True
        self._stops += 1
        for answer, patient in self._asked.items():
            if not patient:
                self._loop.call_later(_SILENCE_MAX_S, self._fall_silent, self._stops, answer, context=outside())

    def _fall_silent(self, stops: int, answer: asyncio.Future[Any]) -> None:
        if self.stopped and self._stops == stops and not answer.done():
            answer.set_exception(SilentError(self.name))

    def go_on(self) -> None:
        """Let the process run again, with all that has come due meanwhile."""
        self.stopped = False
        if self.alive:
            held, self.held = self.held, []
            self._loop.revive(held)


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def present() -> Process | None:
    """Return the process in which this runs, if any."""
    return _PROCESS.get()


def outside() -> Context:
    """Return a context of no process, for what goes on in the store, in the node, and on the way there."""
    context = copy_context()
    context.run(_PROCESS.set, None)
    return context


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Event loop that runs everything as fast as it can, on a clock that only timers move."""

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self._chance = chance
        self._now_s = 0.0
        self.processes: list[Process] = []
        self.remains: list[asyncio.Task[Any]] = []
        self.steps = 0
        # The name is the base class's. Its own `_run_once`, which waits for sockets, is replaced.
        self._ready: deque[asyncio.Handle]
        # The numbers keep handles from being compared, which would take a tenth of a run in Python.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()

    def time(self) -> float:
        """Return the seconds since the beginning of the run."""
        return self._now_s

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See the base class."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> asyncio.Task[Any]:
        """See the base class. Each process knows its own tasks."""
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        process = _PROCESS.get() if context is None else context.get(_PROCESS)
        if process is not None:
            process.tasks.add(task)
        return task

    def end(self) -> None:
        """End all that is left in good order, even in dead processes, so that nothing outlives the run."""
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
        """Run these handles next."""
        self._ready.extend(handles)

    def _run_once(self) -> None:
        """Run what is ready; when nothing is, jump to the time of the next timer."""
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise StuckError("nothing is ready, and no timer is set")
            self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            ready.append(heapq.heappop(timers)[2])
        batch = list(ready)
        ready.clear()
        for handle, process in self._in_turns(batch) if len(batch) > 1 else [(batch[0], _process_of(batch[0]))]:
            if handle.cancelled():
                continue
            if process is not None and not process.runs:
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


def _process_of(handle: asyncio.Handle) -> Process | None:
    return handle._context.get(_PROCESS)  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001

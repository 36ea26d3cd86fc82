"""Host of the dedicated placement, which runs each of its actors in a process of the actor's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import structlog

from ...config.log_context import log_as
from ..cancellation import cancel_and_wait
from ..clock import system_now_ms
from ..domain.behaviour import Behaviour, BooksError, UnknownEventError
from ..domain.errors import Refusal, RefusedError, behind, cut_off, not_found, unavailable
from ..domain.job.state import CreateJob
from ..domain.money import MoneyError
from ..domain.session.messages import OpenSession
from ..host.host import ActorHost
from ..host.partition_host import PartitionHost
from ..host.replies import AnyReply, ReplyTo
from ..host_link import LinkError
from ..messages import Call, NotOwner
from ..partitioning import partition_of
from ..ports import Journal, TransientError
from ..router.indeterminate import after_resend
from ..router.lane import Pending
from .actor_process import ActorProcess, DedicatedProcess
from .journal_query import answer_from_journal

_LOOK_EVERY_S: Final = 1.0
# A process that missed an answer is asked again soon, to be sure.
_DOUBT_S: Final = 0.25
_DEDICATED: Final = ("ses_", "job_")
# Commands that create an actor.
_CREATING: Final = (CreateJob, OpenSession)
_log = structlog.get_logger(__name__)


class ProcessLauncher(Protocol):
    """Launcher of processes for one actor each, which also ends them."""

    async def start(self, actor_id: str, partition: int, epoch: int) -> DedicatedProcess:
        """Start a process, which writes with this epoch. Raises `LinkError`."""
        ...

    async def end(self, actor_id: str) -> None:
        """End a process at once, whatever it does: its work under way is taken up later."""
        ...


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class DedicatedHost(PartitionHost):
    """Host that owns partitions and answers as an `ActorHost`, but gives sessions and jobs processes of their own.

    The host claims, gives away and watches the due times; the process decides, writes with the host's epoch, and acts.
    There are at most `processes_max` at once: a process takes about 100 MB and two seconds to start. Actors that keep
    no state run in `shared`.
    """

    def __init__(
        self,
        host_id: str,
        journal: Journal,
        launcher: ProcessLauncher,
        shared: ActorHost,
        behaviours: Mapping[str, Behaviour[Any]],
        *,
        processes_max: int,
        passivate_after_s: float = 60.0,
        now_ms: Callable[[], int] = system_now_ms,
    ) -> None:
        super().__init__(host_id, journal, shared.kinds, now_ms=now_ms)
        self._launcher = launcher
        self._shared = shared
        self._behaviours = behaviours
        self._processes_max = processes_max
        self._passivate_after_s = passivate_after_s
        self._processes: dict[str, ActorProcess] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._wakes: set[str] = set()
        self._ends: dict[str, asyncio.Task[None]] = {}

    # Life

    async def start(self, partitions: Sequence[int] = ()) -> None:
        """Begin to work, with these partitions. Raises `TransientError`."""
        await self._shared.start()
        await super().start(partitions)

    async def stop(self, patience_s: float = 5.0) -> None:
        """Refuse further calls, let those under way end for `patience_s`, and end all processes."""
        self._dispatcher.closed = True
        self.partitions.cancel()
        await cancel_and_wait(self._tasks)
        if self._calls:
            await asyncio.wait(self._calls, timeout=patience_s)
        for process in list(self._processes.values()):
            self._close(process, cut_off())  # Its process may have done the work that the callers wait for.
        await asyncio.gather(self._shared.stop(patience_s), *self._ends.values())

    @property
    def live_actors(self) -> int:
        """Number of actors that have a process."""
        return len(self._processes)

    # Calls

    def deliver(self, call: Call, reply_to: ReplyTo) -> None:
        """Take a call to an actor that is this host's own."""
        if not call.actor_id.startswith(_DEDICATED):
            self._shared.deliver(call, reply_to)
            return
        task = asyncio.create_task(self._pass_on(call, reply_to))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        reply_to.on_cancel = partial(_cancel, task)

    async def _pass_on(self, call: Call, reply_to: ReplyTo) -> None:
        """Have the actor's process answer a call, if the call needs a process."""
        log_as(call.request_id, call.actor_id, call.traceparent)
        if call.actor_id not in self._processes:
            try:
                reply = await self._without_process(call)
            except TransientError:
                reply_to.answer(unavailable("The store"))
                return
            if reply is not None:
                reply_to.answer(reply)
                return
        if partition_of(call.actor_id) not in self.partitions:
            reply_to.answer(NotOwner())
        elif (process := self._process_of(call.actor_id)) is None:
            reply_to.answer(behind())
        else:
            with process.visit(reply_to):
                await self._ask(process, call, reply_to)

    async def _without_process(self, call: Call) -> AnyReply | None:
        """Return the answer to a call that only looks, or whose actor does not exist; None if it needs a process.

        Made-up ids must not start processes. Nor must a treasury that has begun again and reports all payments once
        more. Raises `TransientError`.
        """
        stored = await self._journal.load(partition_of(call.actor_id), call.actor_id)
        if not stored.snapshot and not stored.events:
            return None if isinstance(call.command, _CREATING) else not_found("id")
        behaviour = self._behaviours[call.actor_id.partition("_")[0]]
        try:
            return answer_from_journal(behaviour, call.actor_id, stored, call.command, self._now_ms())
        except (UnknownEventError, BooksError, MoneyError):
            return None  # The actor's process reports the fault.

    async def _ask(self, process: ActorProcess, call: Call, reply_to: ReplyTo) -> None:
        try:
            lane = await process.lane()
            pending = lane.open(call.actor_id, call.command, resent=call.resent)
        except RefusedError as error:
            reply_to.answer(error.refusal)
            return
        except TimeoutError:
            # The process may still come. Should it stand still instead, another one takes its place.
            reply_to.answer(unavailable("The actor's process"))
            return
        except LinkError as error:
            _log.warning("actor_process_not_started", actor_id=call.actor_id, error=str(error))
            self._close(process, unavailable("The actor's process"))
            return
        try:
            await self._answer(pending, reply_to)
        finally:
            lane.forget(pending)

    async def _answer(self, pending: Pending, reply_to: ReplyTo) -> None:
        while True:
            answer = await pending.next()
            if isinstance(answer.reply, NotOwner):
                # The process's writes are refused: another host has the partition, and this one did not know.
                self.partitions.lose(partition_of(pending.call.actor_id))
                return
            reply = answer.reply
            if isinstance(reply, Refusal) and pending.call.resent:
                # The process's former life may have carried the call out.
                reply = after_resend(reply, pending.call.command)
            reply_to.answer(reply, answer.last)
            if answer.last:
                return

    # Processes

    def _process_of(self, actor_id: str) -> ActorProcess | None:
        """Return the actor's process, a new one if need be; None when there are as many as there may be."""
        process = self._processes.get(actor_id)
        if process is None:
            if len(self._processes) >= self._processes_max and not self._free_process():
                return None
            partition = partition_of(actor_id)
            epoch = self.partitions.epoch(partition)
            process = ActorProcess(actor_id, lambda: self._start(actor_id, partition, epoch))
            self._processes[actor_id] = process
        process.used_s = time.monotonic()
        return process

    def _free_process(self) -> bool:
        """End the process that has been idle longest, if any is; else one whose callers are all gone.

        Return whether a process was ended.
        """
        processes = self._processes.values()
        spare = [each for each in processes if each.idle] or [each for each in processes if each.deserted]
        if spare:
            # A caller that comes back to a deserted process must not take it for certain that nothing was done.
            self._close(min(spare, key=lambda process: process.used_s), cut_off())
        return bool(spare)

    def _close(self, process: ActorProcess, reply: AnyReply) -> None:
        """End a process; callers that still wait in it get this answer."""
        if self._processes.get(process.actor_id) is process:
            del self._processes[process.actor_id]
            process.answer_all(reply)
            self._ends[process.actor_id] = asyncio.create_task(self._end(process))

    async def _end(self, process: ActorProcess) -> None:
        await process.close()
        await self._launcher.end(process.actor_id)
        self._ends.pop(process.actor_id, None)

    async def _start(self, actor_id: str, partition: int, epoch: int) -> DedicatedProcess:
        # A process of the same name that is about to end must have ended: its end would meet the new one.
        if (ending := self._ends.get(actor_id)) is not None:
            await asyncio.wait([ending])
        return await self._launcher.start(actor_id, partition, epoch)

    def drop_partition(self, partition: int) -> None:
        """End the processes of a partition that is no longer the host's."""
        for process in self._processes_in({partition}):
            self._close(process, NotOwner())

    def busy_partitions(self, partitions: Collection[int]) -> set[int]:
        """Return those of these partitions that have something under way."""
        return {partition_of(process.actor_id) for process in self._processes_in(partitions) if not process.idle}

    def _processes_in(self, partitions: Collection[int]) -> list[ActorProcess]:
        return [process for process in self._processes.values() if partition_of(process.actor_id) in partitions]

    # Time

    def wake(self, actor_id: str) -> None:
        """Have a process opened for an actor that has none, soon."""
        if actor_id not in self._processes:
            self._wakes.add(actor_id)

    async def _watch_actors(self) -> None:
        """Start processes for actors whose time has come, and end processes whose actors have nothing to do."""
        while True:
            in_doubt = any(process.detector.misses_answers for process in self._processes.values())
            await asyncio.sleep(min(_DOUBT_S if in_doubt else _LOOK_EVERY_S, self._passivate_after_s))
            self._dispatcher.sweep()
            # In its process, an actor watches its times by itself.
            woken = {actor_id for actor_id in self._wakes if partition_of(actor_id) in self.partitions}
            self._wakes = {actor_id for actor_id in woken if self._process_of(actor_id) is None}
            await asyncio.gather(*(process.look() for process in self._processes.values()))
            if silent := [process for process in self._processes.values() if process.silent]:
                await self._replace(silent)
            now_s = time.monotonic()
            for process in list(self._processes.values()):
                if not process.calls and process.occupied is None and now_s - process.used_s > self._passivate_after_s:
                    self._close(process, behind())

    async def _replace(self, silent: Sequence[ActorProcess]) -> None:
        """Let go of the partitions of processes that hang or are gone, which are then claimed again.

        Another process with the same epoch would not do: should the one that hangs wake, both could write.
        """
        try:
            # Another host that has taken the partitions over may have ended these processes, to start its own.
            await self.partitions.verify()
        except TransientError:
            return
        for process in silent:
            if self._processes.get(process.actor_id) is process:
                _log.warning("actor_process_replaced", actor_id=process.actor_id)
                self.partitions.lose(partition_of(process.actor_id))

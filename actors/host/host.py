"""Actor host: activates actors, runs their mailboxes, writes their journals, carries out their intents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog

from ..cancellation import cancel_and_wait
from ..clock import system_now_ms
from ..domain.backoff import Backoff
from ..domain.behaviour import Behaviour, Command, Decision, Failed, History, TakeUp, Wake
from ..domain.errors import broken, too_many_waiting, unavailable
from ..effects.executor import Effects
from ..messages import Answer, Call, Cancel, NotOwner
from ..partitioning import partition_of
from ..ports import ConflictError, Due, FencedError, Journal, TransientError
from .activation import Activation, Envelope, Turn
from .admission import AdmissionControl
from .answer_recall import recall_kept
from .dispatcher import LONG_POLL_S, Dispatcher
from .partitions import Partitions
from .rehydrate import rehydrate
from .replies import AnyReply, ReplyTo
from .stall_detector import StallDetector
from .ticker import Ticker

# Commands of one actor that share a write; more only make the first ones wait for the last.
_TURN_MAX: Final = 64
_STORE_BACKOFF_FIRST_S: Final = 0.05
_STORE_BACKOFF_MAX_S: Final = 1.0
# An event stands for at least one entry of the history, but for a few that stand for none.
_HISTORY_SLACK: Final = 100
# After this time a caller hears that the store doesn't answer, within one or two of the store's time-outs (2 s).
_STORE_PATIENCE_S: Final = 3.0
_SWEEP_S: Final = 5.0
_log = structlog.get_logger(__name__)


class ActorHost:
    """Host that owns partitions and runs all actors in them.

    A command is acknowledged only after its events are in the journal. If a call to the host fails, the command may or
    may not have been carried out, and may be sent again: every command is idempotent. `only`: the one actor that it
    runs, in a partition that another host owns. `kinds`: the prefixes of ids it can run.
    """

    def __init__(
        self,
        host_id: str,
        journal: Journal,
        effects: Effects,
        behaviours: Mapping[str, Behaviour[Any]],
        *,
        passivate_after_s: float = 60.0,
        now_ms: Callable[[], int] = system_now_ms,
        only: str | None = None,
    ) -> None:
        self._journal = journal
        self._effects = effects
        self._behaviours = behaviours
        self.kinds: Collection[str] = behaviours.keys()
        self._passivate_after_s = passivate_after_s
        self._now_ms = now_ms
        self.partitions = Partitions(
            host_id, journal, busy=self._busy_partitions, drop=self._drop_partition, accept=self._accept
        )
        self._activations: dict[str, Activation] = {}
        self._dispatcher = Dispatcher(self.partitions, self.kinds, self.serve, only)
        self._admission = AdmissionControl()
        self._stall_detector = StallDetector(self.partitions.verify)
        self._ticker = Ticker(self._due, self._wake, now_ms)
        self._tasks: list[asyncio.Task[None]] = []

    # Life

    async def start(self, partitions: Sequence[int] = ()) -> None:
        """Begin to work, with these partitions. Raises `TransientError`."""
        self._effects.prepare()
        if not self._tasks:
            loops = self._ticker.run(), self._sweep(), self._stall_detector.run()
            self._tasks = [asyncio.create_task(loop) for loop in loops]
        await self.take(partitions)

    async def take(self, partitions: Collection[int]) -> None:
        """Take partitions over, and take up what was under way in them. Raises `TransientError`."""
        if partitions:
            await self.partitions.claim(partitions)
            await self._ticker.scan()

    async def lend(self, partition: int, epoch: int) -> None:
        """Work in a partition that its owner claimed, with the owner's epoch. Raises `TransientError`."""
        self.partitions.borrow(partition, epoch)
        await self._ticker.scan()

    async def stop(self, patience_s: float = 5.0) -> None:
        """Refuse further calls, let model calls end for `patience_s`, and stop.

        Work that is cut off is taken up later.
        """
        self._dispatcher.closed = True
        self.partitions.cancel()
        await cancel_and_wait(self._tasks)
        deadline_s = time.monotonic() + patience_s
        while (busy := self._busy(precious=True)) and (left_s := deadline_s - time.monotonic()) > 0:
            await asyncio.wait(busy, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        await cancel_and_wait(self._busy())
        await self._effects.close()

    @property
    def live_actors(self) -> int:
        """Number of actors in memory."""
        return len(self._activations)

    @property
    def occupied(self) -> bool:
        """Return whether any actor has something under way."""
        return any(activation.occupied for activation in self._activations.values())

    def _busy(self, *, precious: bool = False) -> list[asyncio.Task[None]]:
        live = list(self._activations.values())
        tasks = [task for a in live for task in (a.in_flight.precious_tasks if precious else a.in_flight.tasks)]
        return tasks + [a.pump for a in live if a.pump is not None]

    # Calls

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Take calls, as soon as the host is not behind with its work; their answers go to this queue."""
        await self._stall_detector.verify_after_stall()
        await self._admission.admit()
        self._dispatcher.submit(queue_id, calls)

    async def collect(self, queue_id: str, longest_s: float = LONG_POLL_S) -> list[Answer]:
        """Return the answers that are ready; wait for the first one for at most `longest_s`."""
        return await self._dispatcher.collect(queue_id, longest_s)

    def _accept(self, call: Call, reply_to: ReplyTo) -> None:
        self._dispatcher.accept(call, reply_to)

    def serve(self, call: Call, reply_to: ReplyTo) -> None:
        """Take a call to an actor that is this host's own."""
        self._deliver(call.actor_id, Envelope(call.command, reply_to, time.monotonic(), call.resent))

    def _deliver(self, actor_id: str, envelope: Envelope) -> None:
        activation = self._activations.get(actor_id)
        if activation is None:
            activation = self._activations[actor_id] = self._activation(actor_id)
        if envelope.reply_to is not None and activation.full:
            envelope.reply_to.answer(too_many_waiting())
            return
        activation.mailbox.append(envelope)
        if activation.pump is None:
            self._admission.begin()
            activation.pump = asyncio.create_task(self._pump(activation))

    def _activation(self, actor_id: str) -> Activation:
        def deliver(outcome: Command) -> None:
            # An activation that was dropped has a successor, here or elsewhere, to which this outcome means nothing.
            if self._activations.get(actor_id) is activation:
                self._deliver(actor_id, Envelope(outcome, None, time.monotonic()))

        behaviour = self._behaviours[actor_id.partition("_")[0]]
        run = partial(self._effects.run, actor_id=actor_id)
        activation = Activation(actor_id, partition_of(actor_id), behaviour, run, deliver, time.monotonic())
        return activation

    def _wake(self, actor_id: str) -> None:
        if self._dispatcher.serves(actor_id) and not self._dispatcher.closed:
            self._deliver(actor_id, Envelope(Wake(), None, time.monotonic()))

    # The mailbox

    async def _pump(self, activation: Activation) -> None:
        """Work through the mailbox. Whatever happens to the store, the host's own commands stay in it until done."""
        backoff = Backoff(_STORE_BACKOFF_FIRST_S, _STORE_BACKOFF_MAX_S)
        try:
            while activation.mailbox:
                try:
                    await self._turn(activation)
                    backoff.reset()
                except (TransientError, ConflictError) as error:
                    _log.warning("store_not_confirming", actor_id=activation.actor_id, error=str(error))
                    activation.loaded = False
                    activation.refuse_impatient(unavailable("The store"), _STORE_PATIENCE_S, time.monotonic())
                    await asyncio.sleep(backoff.next())
        except Exception as error:
            if not activation.dropped:
                self._trouble(activation, error)
        finally:
            self._admission.end()
            activation.pump = None
            activation.last_used_s = time.monotonic()
            if activation.state is None and activation.idle and not activation.dropped:
                # Ids that don't exist must not fill the memory until the next sweep.
                self._activations.pop(activation.actor_id, None)

    async def _turn(self, activation: Activation) -> None:
        if not activation.loaded:
            await self._load(activation)
        envelopes = [activation.mailbox[i] for i in range(min(len(activation.mailbox), _TURN_MAX))]
        await recall_kept(self._journal, activation, envelopes, time.monotonic())
        if activation.dropped:
            return  # Dropped while it was read, it must not write, not even with a newer epoch of this host's.
        turn = activation.decide(envelopes, self._now_ms())
        if turn.events or turn.marks:
            append = activation.append_of(turn, self.partitions.epoch(activation.partition), self._now_ms())
            activation.attempt(append, turn)
            await self._journal.append(append)
            activation.confirm(append)
        elif turn.denies_a_payment:  # A former owner may know less than the present one.
            await self.partitions.confirm(activation.partition)
        if not activation.dropped:
            self._happened(activation, turn)

    async def _load(self, activation: Activation) -> None:
        """Read the actor; what it had under way is taken up before anything else is decided."""
        behaviour, actor_id = activation.behaviour, activation.actor_id
        stored = await self._journal.load(activation.partition, actor_id)
        if activation.dropped:
            return
        happened = activation.written_after_all(stored)
        state = rehydrate(behaviour, actor_id, stored)
        activation.restore(state, stored.snapshot_version + len(stored.events))
        if happened is not None:
            self._happened(activation, happened)
            return
        first = activation.mailbox[0].command
        if state is None and isinstance(first, Wake):
            await self._journal.forget_due(activation.partition, self.partitions.epoch(activation.partition), actor_id)
        elif state is not None and not activation.taken_up:
            activation.mailbox.appendleft(Envelope(TakeUp(), None, time.monotonic()))
        # When an actor is read again after an unconfirmed write, its work under way is this host's own.
        activation.taken_up = True

    def _happened(self, activation: Activation, turn: Turn) -> None:
        """Let the turn take effect, now that it is written (if there was anything to write)."""
        behaviour, now_ms = activation.behaviour, self._now_ms()
        activation.state = turn.state
        activation.take_from_mailbox(turn)
        if turn.events:
            due_ms = behaviour.due_ms(turn.state)
            # Work under way is due in the store, for the next host to find. This host need not be woken for it.
            if due_ms is not None and (due_ms > now_ms or not behaviour.intents(activation.actor_id, turn.state)):
                self._ticker.schedule(activation.actor_id, due_ms)
        self._follow_up(activation, turn)

    def _follow_up(self, activation: Activation, turn: Turn) -> None:
        """Answer, and start the intents of the turn."""
        for envelope, decision in turn.outcomes:
            activation.decided(envelope.command)
            for alarm in decision.alarms:
                _log.error(alarm.event, actor_id=activation.actor_id, **alarm.fields)
            activation.answer_waiting(decision, time.monotonic())
            if envelope.refused:
                # The write was made after all. But the caller has gone, with the answer that nothing was charged.
                for intent in decision.intents:
                    failed = Failed(intent, permanent=False)
                    self._deliver(activation.actor_id, Envelope(failed, None, time.monotonic()))
                continue
            for intent in decision.intents:
                activation.in_flight.start(intent)
            if envelope.reply_to is not None:
                self._reply(activation, envelope.reply_to, decision)
            if envelope.reply_to is not None and not (turn.events or turn.marks):
                # An earlier turn decided otherwise, perhaps, and its write may still arrive: it must not begin work
                # for a caller who has this answer.
                envelope.refused = True
        if activation.state is not None:
            for intent in activation.behaviour.intents(activation.actor_id, activation.state):
                activation.in_flight.start(intent)
            if turn.events:
                activation.show_watchers()

    def _reply(self, activation: Activation, reply_to: ReplyTo, decision: Decision) -> None:
        if decision.wait_for is not None:
            activation.wait(decision.wait_for, reply_to)
            activation.left(decision.wait_for)
        elif decision.watch:
            activation.watch(reply_to)
        elif decision.history is not None:
            activation.run_beside(self._tell(activation, reply_to, decision.history))
        elif decision.reply is not None:
            reply_to.answer(decision.reply)

    async def _tell(self, activation: Activation, reply_to: ReplyTo, asked: History) -> None:
        """Read the journal for a caller, beside the mailbox: a long one must not hold up anything else."""
        behaviour, place = activation.behaviour, (activation.partition, activation.actor_id)
        try:
            if asked.holding is None:
                data = await self._journal.history(*place, asked.after, asked.limit + _HISTORY_SLACK)
            else:
                data = await self._journal.search(*place, asked.holding, asked.limit)
        except TransientError:
            reply_to.answer(unavailable("The store"))
            return
        reply_to.answer(behaviour.history([behaviour.decode_event(event) for event in data], asked))

    # Trouble

    def _trouble(self, activation: Activation, error: Exception) -> None:
        # Another host owns the partition. Two hosts that claimed it back by themselves would take turns for ever.
        if isinstance(error, FencedError):
            _log.warning("fenced", partition=activation.partition, epoch=error.current_epoch)
            self.partitions.lose(activation.partition)
        else:  # A defect of ours, or a newer version's journal: nothing may be written, the operator must look.
            _log.error("actor_broken", actor_id=activation.actor_id, error=repr(error))
            self._drop(activation, broken(), broken(begun=True))

    def _drop_partition(self, partition: int) -> None:
        for activation in [a for a in self._activations.values() if a.partition == partition]:
            self._drop(activation, NotOwner())

    def _busy_partitions(self, partitions: Collection[int]) -> set[int]:
        return {a.partition for a in self._activations.values() if a.partition in partitions and a.occupied}

    def _drop(self, activation: Activation, reply: AnyReply, begun: AnyReply | None = None) -> None:
        """Let go of an actor. `begun`: the reply to callers whose work had begun, where it is another one."""
        self._activations.pop(activation.actor_id, None)
        activation.dropped = True
        activation.in_flight.cancel()
        callers = [envelope.reply_to for envelope in activation.mailbox if envelope.reply_to is not None]
        activation.mailbox.clear()
        for reply_to in callers + activation.watchers:
            reply_to.answer(reply)
        for reply_to in [reply_to for waiting in activation.waiting.values() for reply_to in waiting]:
            reply_to.answer(begun or reply)

    # Time

    async def _due(self, before_ms: int) -> Sequence[Due]:
        return await self._journal.due(list(self.partitions.owned), before_ms)

    async def _sweep(self) -> None:
        """Passivate idle actors and forget routers that are gone."""
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._passivate_after_s))
            self._dispatcher.sweep()
            now_s = time.monotonic()
            for activation in list(self._activations.values()):
                activation.forget_cancelled()
                if activation.idle and now_s - activation.last_used_s > self._passivate_after_s:
                    del self._activations[activation.actor_id]

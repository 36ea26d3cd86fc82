"""Mailbox of an actor: it takes commands in turn, writes what they decide, and only then answers and acts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from ...config.log_context import log_as, present_request_id, present_traceparent, tell_step, tells_steps
from ..domain import idempotency_keys
from ..domain.backoff import Backoff
from ..domain.behaviour import Behaviour, Command, Decision, Done, Failed, History, Intent, Reply, TakeUp, Wake
from ..domain.errors import Refusal, broken, too_many_waiting, unavailable, unconfirmed
from ..effects.executor import Effects
from ..metrics.host import HostMetrics
from ..ports import ConflictError, FencedError, Journal, TransientError
from .activation import Activation
from .admission import AdmissionControl
from .answer_recall import recall_kept
from .in_flight import InFlight
from .partitions import Partitions
from .rehydrate import rehydrate
from .repetitions import Ended
from .replies import AnyReply, ReplyTo
from .subscribers import Subscribers
from .ticker import Ticker
from .turn import Envelope, Turn, first_of

# Commands of one actor that wait for it. More of them would only wait longer than their callers do.
_MAILBOX_MAX: Final = 1_024
# Commands of one actor that share a write; more only make the first ones wait for the last.
_TURN_MAX: Final = 64
_STORE_BACKOFF_FIRST_S: Final = 0.05
_STORE_BACKOFF_MAX_S: Final = 1.0
# An event stands for at least one entry of the history, but for a few that stand for none.
_HISTORY_SLACK: Final = 100
_REQUESTS_LOGGED_MAX: Final = 16
# After this time a caller hears that the store doesn't answer, within one or two of the store's time-outs (2 s).
_STORE_PATIENCE_S: Final = 3.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HostServices:
    """Parts of a host that all its mailboxes use.

    `retire` forgets a mailbox that has nothing to do any more; `rest` takes note of one that has nothing to do now.
    """

    journal: Journal
    effects: Effects
    partitions: Partitions
    admission: AdmissionControl
    ticker: Ticker
    now_ms: Callable[[], int]
    retire: Callable[[Mailbox], None]
    rest: Callable[[Mailbox], None]
    metrics: HostMetrics | None = None


class Mailbox:
    """Mailbox of a live actor, with all that the actor has under way.

    `dropped`: another host has the actor now, or the actor is broken: nothing may be done here any more.
    """

    def __init__(self, actor_id: str, partition: int, behaviour: Behaviour[Any], services: HostServices) -> None:
        self.actor_id = actor_id
        self.partition = partition
        self.last_used_s = time.monotonic()
        self.dropped = False
        timed = None if services.metrics is None else services.metrics.ended
        run = partial(services.effects.run, actor_id=actor_id)
        self.in_flight = InFlight(run, self._deliver, self._say, timed)
        self.pump: asyncio.Task[None] | None = None
        self._behaviour = behaviour
        self._services = services
        self._activation = Activation(actor_id, partition, behaviour)
        self._taken_up = False
        self._commands: deque[Envelope] = deque()
        self._subscribers = Subscribers(self.in_flight)
        self._beside: set[asyncio.Task[None]] = set()
        self._ended = Ended()

    @property
    def idle(self) -> bool:
        """Return whether the actor can be dropped from memory: nothing runs, no caller waits."""
        return not (self._commands or self.pump or self.in_flight or self._subscribers or self._beside)

    @property
    def unpaid(self) -> bool:
        """Return whether the actor took no money: the store forgets it by itself."""
        state = self._activation.state
        return state is not None and self._behaviour.keep_ms(state, self._services.now_ms()) is not None

    @property
    def waiting(self) -> int:
        """Number of commands that wait, or are being decided."""
        return len(self._commands)

    @property
    def state(self) -> Any:
        """Written state of the actor; None before the first read."""
        return self._activation.state

    @property
    def occupied(self) -> bool:
        """Return whether something is under way that should end here rather than begin again on another host."""
        return bool(self._commands or self.pump or self._beside or self.in_flight.precious)

    # Commands

    def put(
        self,
        command: Command,
        reply_to: ReplyTo | None = None,
        *,
        resent: bool = False,
        request_id: str = "",
        traceparent: str = "",
    ) -> None:
        """Take a command. Commands without callers are the host's own, which are never refused."""
        if reply_to is not None and len(self._commands) >= _MAILBOX_MAX:
            reply_to.answer(too_many_waiting())
            return
        envelope = Envelope(command, reply_to, time.monotonic(), resent, request_id=request_id, traceparent=traceparent)
        self._commands.append(envelope)
        if self.pump is None:
            self._services.admission.begin()
            self.pump = asyncio.create_task(self._pump())

    def _deliver(self, outcome: Command) -> None:
        # A mailbox that was dropped has a successor, here or elsewhere, to which this outcome means nothing.
        if not self.dropped:
            self.put(outcome, request_id=present_request_id(), traceparent=present_traceparent())

    async def _pump(self) -> None:
        """Work through the commands. Whatever happens to the store, the host's own stay until they are done."""
        backoff = Backoff(_STORE_BACKOFF_FIRST_S, _STORE_BACKOFF_MAX_S)
        try:
            while self._commands:
                try:
                    await self._turn()
                    backoff = Backoff(_STORE_BACKOFF_FIRST_S, _STORE_BACKOFF_MAX_S)
                except (TransientError, ConflictError) as error:
                    _log.warning("store_not_confirming", **self._requests(), error=str(error))
                    self._activation.loaded = False
                    self._refuse_impatient(unavailable("The store"), _STORE_PATIENCE_S, time.monotonic())
                    await asyncio.sleep(backoff.next())
        except Exception as error:
            if not self.dropped:
                self._fail(error)
        finally:
            self._services.admission.end()
            self.pump = None
            self.last_used_s = time.monotonic()
            if self.idle and not self.dropped:
                if self._activation.state is None:
                    # Ids that don't exist must not fill the memory until the next sweep.
                    self._services.retire(self)
                else:
                    self._services.rest(self)

    def _requests(self) -> dict[str, Any]:
        """Return the ids for an entry about all commands that wait."""
        ids = sorted({envelope.request_id for envelope in self._commands if envelope.request_id})
        return {"actor_id": self.actor_id, **({"request_ids": ids[:_REQUESTS_LOGGED_MAX]} if len(ids) > 1 else {})}

    async def _turn(self) -> None:
        services, activation = self._services, self._activation
        log_as(self._commands[0].request_id, self.actor_id, self._commands[0].traceparent)
        if not activation.loaded:
            await self._load()
        envelopes = [self._commands[i] for i in range(min(len(self._commands), _TURN_MAX))]
        look = partial(services.journal.recall, self.partition, self.actor_id)
        await recall_kept(look, self._find_originals(envelopes, time.monotonic()), envelopes)
        if self.dropped:
            return  # Dropped while it was read, it must not write, not even with a newer epoch of this host's.
        turn = activation.decide(envelopes, services.now_ms())
        if turn.events or turn.marks:
            append = activation.append_of(turn, services.partitions.epoch(self.partition), services.now_ms())
            activation.attempt(append, turn)
            began_s = time.perf_counter()
            await services.journal.append(append)
            turn.took_ms = round((time.perf_counter() - began_s) * 1_000, 1)
            activation.confirm(append)
        elif turn.denies_a_payment:  # A former owner may know less than the present one.
            await services.partitions.confirm(self.partition)
        if not self.dropped:
            self._happened(turn)

    async def _load(self) -> None:
        """Read the actor; what it had under way is taken up before anything else is decided."""
        services, activation = self._services, self._activation
        stored = await services.journal.load(self.partition, self.actor_id)
        if self._taken_up:
            # What the journal shows is this host's own work only if no other host has taken the actor up meanwhile.
            await services.partitions.confirm(self.partition)
        if self.dropped:
            return
        happened = activation.written_after_all(stored)
        if happened is None and activation.lost_track(stored):
            self._subscribers.refuse(unconfirmed())
        state = rehydrate(self._behaviour, self.actor_id, stored)
        activation.restore(state, stored.snapshot_version + len(stored.events))
        if services.metrics is not None and not self._taken_up and state is not None:
            services.metrics.events.activations.inc()
        if happened is not None:
            self._happened(happened)
            return
        first = self._commands[0].command
        if state is None and isinstance(first, Wake):
            epoch = services.partitions.epoch(self.partition)
            await services.journal.forget_due(self.partition, epoch, self.actor_id)
        elif state is not None and not self._taken_up:
            self._commands.appendleft(Envelope(TakeUp(), None, time.monotonic()))
        # When an actor is read again after an unconfirmed write, its work under way is this host's own.
        self._taken_up = True

    def _find_originals(self, envelopes: Sequence[Envelope], now_s: float) -> list[tuple[Envelope, str | None]]:
        """Make repetitions of calls under way the same operation as their originals.

        Return the other repetitions, with the name of the call that they repeat where that has just ended.
        """
        others: list[tuple[Envelope, str | None]] = []
        for place, envelope in enumerate(envelopes):
            if (attempt := envelope.repeats) is None or (own := envelope.command.once) is None:
                continue
            once = self.in_flight.claim(attempt.digest, own, self._subscribers.topics)
            if once is None:
                once = first_of(attempt, envelopes[:place])
            if once is not None:
                envelope.stand_for(once)
            else:
                others.append((envelope, self._ended.claim(attempt.digest, now_s)))
        return others

    # What follows a turn

    def _happened(self, turn: Turn) -> None:
        """Let the turn take effect, now that it is written (if there was anything to write)."""
        if turn.events and self._services.metrics is not None:
            self._services.metrics.wrote(self._activation.state, turn.events, turn.sums)
        self._activation.state = turn.state
        for envelope, _ in turn.outcomes:
            self._take_out(envelope)
        if turn.events:
            due_ms = self._behaviour.due_ms(turn.state)
            # Work under way is due in the store, for the next host to find. This host need not be woken for it.
            later = due_ms is not None and due_ms > self._services.now_ms()
            if due_ms is not None and (later or not self._behaviour.intents(self.actor_id, turn.state)):
                self._services.ticker.schedule(self.actor_id, due_ms)
        abandoned = self._abandoned(turn)
        for envelope, decision in turn.outcomes:
            self._follow_up(envelope, decision, abandoned, written=bool(turn.events or turn.marks))
            if decision.events and tells_steps():
                names = [type(event).__struct_config__.tag for event in decision.events]
                tell_step("journal_written", events=names, version=self._activation.version, ms=turn.took_ms)
        for intent in abandoned.values():
            # In front of all other commands: one with the same key would join the hold that is about to be released.
            self._commands.appendleft(Envelope(Failed(intent, permanent=False), None, time.monotonic()))
        if turn.state is not None:
            for intent in self._behaviour.intents(self.actor_id, turn.state):
                self.in_flight.start(intent)
            if turn.events:
                self._subscribers.show(self._behaviour, self.actor_id, turn.state)

    def _abandoned(self, turn: Turn) -> Mapping[str, Intent]:
        """Return the intents, by their keys, of callers who were refused before the turn's write turned out to be made.

        Others may have joined them. Their work must not begin, either: it would run on when the hold that it needs is
        released. Work that was under way before is not abandoned, because the refused caller had only joined it.
        """
        under_way = set(self.in_flight.keys)
        abandoned: dict[str, Intent] = {}
        for envelope, decision in turn.outcomes:
            if isinstance(envelope.command, Done | Failed):
                under_way.discard(envelope.command.intent.key)
            if envelope.refused:
                abandoned |= {intent.key: intent for intent in decision.intents if intent.key not in under_way}
        return abandoned

    def _take_out(self, envelope: Envelope) -> None:
        if self._commands and self._commands[0] is envelope:
            self._commands.popleft()
        elif envelope in self._commands:
            self._commands.remove(envelope)

    def _follow_up(self, envelope: Envelope, decision: Decision, abandoned: Collection[str], *, written: bool) -> None:
        """Answer a command, and start what it intends. Nothing with an `abandoned` key is begun."""
        # The tasks of its intents log under these ids.
        log_as(envelope.request_id, self.actor_id, envelope.traceparent)
        if isinstance(envelope.command, Done | Failed):
            self.in_flight.decided(envelope.command.intent.key)
        for alarm in decision.alarms:
            _log.error(alarm.event, actor_id=self.actor_id, **alarm.fields)
        self._answer_topics(decision)
        if envelope.refused:
            return  # The write was made after all. But the caller has gone, with the answer that nothing was charged.
        if envelope.reply_to is not None and any(intent.key in abandoned for intent in decision.intents):
            envelope.reply_to.answer(unavailable("The store"))
            return
        for intent in decision.intents:
            self.in_flight.start(intent)
        if envelope.reply_to is not None:
            self._reply(envelope.reply_to, decision)
            if not written:
                # An earlier turn decided otherwise, perhaps, and its write may still arrive: it must not begin work
                # for a caller who has this answer.
                envelope.refused = True

    def _answer_topics(self, decision: Decision) -> None:
        answered = [self._subscribers.answer(topic, reply) for topic, reply in decision.answers.items()]
        for digest, name in filter(None, map(idempotency_keys.repeated, decision.marks)):
            self._ended.add(digest, name, time.monotonic(), heard=any(answered))

    def _reply(self, reply_to: ReplyTo, decision: Decision) -> None:
        if decision.wait_for is not None:
            self._subscribers.wait(decision.wait_for, reply_to)
        elif decision.watch:
            self._subscribers.watch(self._behaviour, self.actor_id, self._activation.state, reply_to)
        elif decision.history is not None:
            self._run_beside(self._read_history(reply_to, decision.history))
        elif decision.reply is not None:
            reply_to.answer(decision.reply)

    def _say(self, topic: str, reply: Reply) -> None:
        self._subscribers.say(topic, reply)

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Start work beside the commands, which must not wait for it."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _read_history(self, reply_to: ReplyTo, asked: History) -> None:
        """Read the journal for a caller, beside the commands: a long one must not hold up anything else."""
        journal, behaviour, place = self._services.journal, self._behaviour, (self.partition, self.actor_id)
        try:
            if asked.holding is None:
                data = await journal.history(*place, asked.after, asked.limit + _HISTORY_SLACK)
            else:
                data = await journal.search(*place, asked.holding, asked.limit)
        except TransientError:
            reply_to.answer(unavailable("The store"))
            return
        reply_to.answer(behaviour.history([behaviour.decode_event(event) for event in data], asked))

    # Refusals, and the end

    def _refuse_impatient(self, refusal: Refusal, patience_s: float, now_s: float) -> None:
        """Refuse callers that have waited long enough; the host's own commands to the actor stay.

        While an outcome can't be written, the callers that wait for it are refused, too. Which these are is only known
        when the outcome is decided upon; but none of the others could be answered, either.
        """
        for envelope in [e for e in self._commands if now_s - e.arrived_s > patience_s]:
            if envelope.reply_to is not None:
                self._commands.remove(envelope)
                envelope.refused = True
                envelope.reply_to.answer(refusal)
            elif isinstance(envelope.command, Done | Failed):
                self._subscribers.refuse(unconfirmed())

    def _fail(self, error: Exception) -> None:
        # Another host owns the partition. Two hosts that claimed it back by themselves would take turns for ever.
        if isinstance(error, FencedError):
            _log.warning("fenced", partition=self.partition, epoch=error.current_epoch)
            self._services.partitions.lose(self.partition)
        else:  # A defect of ours, or a newer version's journal: nothing may be written, the operator must look.
            _log.error("actor_broken", actor_id=self.actor_id, error=repr(error))
            self._services.retire(self)
            self.drop(broken(), begun=broken(begun=True))

    def drop(self, reply: AnyReply, begun: AnyReply | None = None) -> None:
        """End all that the actor has under way here; callers that wait get this answer.

        `begun`: the answer for callers whose work had begun, where it is another one.
        """
        self.dropped = True
        self.in_flight.cancel()
        callers = [envelope.reply_to for envelope in self._commands if envelope.reply_to is not None]
        self._commands.clear()
        for reply_to in callers:
            reply_to.answer(reply)
        self._subscribers.end(reply, begun or reply)

    def forget_cancelled(self) -> None:
        """Drop callers that no longer wait."""
        self._subscribers.forget_cancelled()

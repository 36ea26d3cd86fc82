"""Actor in memory: its state, its mailbox, and the callers that wait for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from ..domain.behaviour import Attempt, Behaviour, Command, Decision, Done, Event, Failed, Mark, Once, Reply
from ..domain.credentials import idempotency_keys
from ..domain.errors import Refusal, idempotency_conflict, not_found, unconfirmed
from ..domain.payments.invoices import Settle
from ..ports import Append, Stored
from .in_flight import Deliver, InFlight, Run
from .kept_answers import kept_of, known
from .repetitions import Ended
from .replies import ReplyTo

# Commands of one actor that wait for it. More of them would only wait longer than their callers do.
_MAILBOX_MAX: Final = 1_024
# After so many events a snapshot spares the next activation folding them.
_SNAPSHOT_EVERY: Final = 64
# Unconfirmed writes that are remembered, the first and the last ones. A store that stood still may yet make the first.
_ATTEMPTS_MAX: Final = 8


@dataclass(slots=True, eq=False)
class Envelope:
    """Command in a mailbox. `reply_to` is None for the host's own wakes and outcomes, which no caller waits for.

    `resent`: another host may have carried it out already. `kept`: the answers that the store holds under the names
    that its answer may be kept under. `refused`: the caller got a refusal that says that nothing came of it, while its
    write was not confirmed.
    """

    command: Command
    reply_to: ReplyTo | None
    arrived_s: float
    resent: bool = False
    kept: Mapping[str, bytes] = field(default_factory=dict)
    refused: bool = False
    stands_for_another: bool = False

    @property
    def repeats(self) -> Attempt | None:
        """Return the attempt of a client's library that sends this again; None once its original is known."""
        attempt = self.command.attempt
        return attempt if attempt is not None and attempt.number and not self.stands_for_another else None

    def stand_for(self, once: Once) -> None:
        """Make the command the same operation as the one that it repeats."""
        self.command = replace(self.command, once=once)
        self.resent = self.stands_for_another = True

    @property
    def done_once(self) -> Once | None:
        """Return the operation whose answer may be kept already; None for one that can't have been sent before."""
        once = self.command.once
        return once if once is not None and self.reply_to and (once.keyed or self.resent) else None


@dataclass(slots=True)
class Turn:
    """Result of a run over the mailbox: the new state, and the answers and intents that follow once it is written."""

    state: Any
    events: list[Event] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)
    outcomes: list[tuple[Envelope, Decision]] = field(default_factory=list)

    @property
    def denies_a_payment(self) -> bool:
        """Return whether the turn says that a payment is not the actor's.

        The payment would then be unowned, and would not be delivered again.
        """
        return any(isinstance(e.command, Settle) and isinstance(d.reply, Refusal) for e, d in self.outcomes)


def _first_of(attempt: Attempt, envelopes: Sequence[Envelope]) -> Once | None:
    """Return the same operation among commands that are decided upon together."""
    for envelope in envelopes:
        other = envelope.command.attempt
        if other is not None and other.digest == attempt.digest:
            return envelope.command.once
    return None


def _is_end_of(append: Append, stored: Stored) -> bool:
    """Return whether this write is the last that the store has made.

    The journal can't show that of a write without events.
    """
    if not append.events:
        return False
    if append.snapshot is not None and stored.snapshot == append.snapshot:
        return not stored.events
    count = len(append.events)
    ends_there = stored.snapshot_version + len(stored.events) == append.expected_version + count
    return ends_there and list(stored.events[-count:]) == list(append.events)


class Activation:
    """Live actor. It holds nothing beyond its last use that the journal does not hold.

    `state` is the written state; `version` the length of its journal; `loaded` is False before the first read and
    whenever a write's outcome is unknown, which is then among the `unconfirmed`. `taken_up`: the work that its last
    host had under way has been taken up. `dropped`: another host has the actor now, and nothing may be done here any
    more.
    """

    def __init__(
        self, actor_id: str, partition: int, behaviour: Behaviour[Any], run: Run, deliver: Deliver, now_s: float
    ) -> None:
        self.actor_id = actor_id
        self.partition = partition
        self.behaviour = behaviour
        self.last_used_s = now_s
        self.state: Any = None
        self.version = 0
        self.loaded = False
        self.taken_up = False
        self.dropped = False
        self.unconfirmed: list[tuple[Append, Turn]] = []
        self.mailbox: deque[Envelope] = deque()
        self.pump: asyncio.Task[None] | None = None
        self.waiting: dict[str, list[ReplyTo]] = {}
        self.watchers: list[ReplyTo] = []
        self.in_flight = InFlight(run, deliver, self._say)
        self.side_tasks: set[asyncio.Task[None]] = set()
        self.ended = Ended()

    @property
    def idle(self) -> bool:
        """Return whether the actor can be dropped from memory: nothing runs, no caller waits."""
        return not (self.mailbox or self.pump or self.in_flight or self.waiting or self.watchers or self.side_tasks)

    @property
    def full(self) -> bool:
        """Return whether the mailbox holds as many commands as may wait."""
        return len(self.mailbox) >= _MAILBOX_MAX

    @property
    def occupied(self) -> bool:
        """Return whether something is under way that should end here rather than begin again on another host."""
        return bool(self.mailbox or self.pump or self.side_tasks or self.in_flight.precious)

    def decide(self, envelopes: list[Envelope], now_ms: int) -> Turn:
        """Decide the commands one after the other, each upon the state that the ones before it lead to."""
        turn = Turn(self.state)
        for envelope in envelopes:
            decision = self._decision(envelope, turn, now_ms)
            for event in decision.events:
                turn.state = self.behaviour.evolve(self.actor_id, turn.state, event)
            turn.events.extend(decision.events)
            turn.marks.update((mark.once.name, mark) for mark in decision.marks)
            turn.outcomes.append((envelope, decision))
        return turn

    def _decision(self, envelope: Envelope, turn: Turn, now_ms: int) -> Decision:
        once = envelope.done_once
        # An answer that this very turn has brought about can't be in the store yet.
        done = (
            None
            if once is None
            else idempotency_keys.found(once, lambda name: known(turn.marks.get(name), envelope.kept, name))
        )
        if once is None or done is None:
            return self.behaviour.decide(self.actor_id, turn.state, envelope.command, now_ms)
        if done.known.digest != once.digest:
            return Decision(reply=idempotency_conflict())
        place = self.actor_id, turn.state, envelope.command
        again = self.behaviour.again(*place, done.known.reply, now_ms, former=done.former)
        return self.behaviour.decide(*place, now_ms) if again is None else again

    def restore(self, state: Any, version: int) -> None:
        """Take over the state that was read from the store."""
        self.state, self.version, self.loaded = state, version, True

    def append_of(self, turn: Turn, epoch: int, now_ms: int) -> Append:
        """Return the write that makes the turn true."""
        behaviour, version = self.behaviour, self.version + len(turn.events)
        snapshot_due = version // _SNAPSHOT_EVERY > self.version // _SNAPSHOT_EVERY
        return Append(
            partition=self.partition,
            epoch=epoch,
            actor_id=self.actor_id,
            expected_version=self.version,
            events=[behaviour.encode_event(event) for event in turn.events],
            snapshot=behaviour.encode_state(turn.state) if snapshot_due else None,
            due_ms=behaviour.due_ms(turn.state),
            keep_ms=behaviour.keep_ms(turn.state, now_ms),
            kept=[kept_of(mark) for mark in turn.marks.values()],
            liability_change_msat=behaviour.liability(turn.state).value - behaviour.liability(self.state).value,
        )

    def attempt(self, append: Append, turn: Turn) -> None:
        """Remember a write that is about to be sent.

        Until one is confirmed, the store may make any of them, however late it arrives.
        """
        self.unconfirmed.append((append, turn))
        if len(self.unconfirmed) > _ATTEMPTS_MAX:
            del self.unconfirmed[_ATTEMPTS_MAX // 2]

    def confirm(self, append: Append) -> None:
        """Take note that the store has made a write, so that it refuses all others."""
        self.unconfirmed.clear()
        self.version += len(append.events)

    def written_after_all(self, stored: Stored) -> Turn | None:
        """Return the turn whose write was not confirmed, if the store holds it: then it has happened.

        A write that the store does not hold yet may still be on its way, behind those that are tried after it.
        """
        for append, turn in self.unconfirmed:
            if _is_end_of(append, stored):
                self.unconfirmed.clear()
                return turn
        if self.unconfirmed and stored.snapshot_version + len(stored.events) != self.version:
            # Some write was made, and it can't be said for whom. Its answers are lost.
            self.unconfirmed.clear()
            self._refuse_waiting(unconfirmed())
        return None

    def take_from_mailbox(self, turn: Turn) -> None:
        """Take the commands out of the mailbox that the turn decided upon."""
        for envelope, _ in turn.outcomes:
            if self.mailbox and self.mailbox[0] is envelope:
                self.mailbox.popleft()
            elif envelope in self.mailbox:
                self.mailbox.remove(envelope)

    def refuse_impatient(self, refusal: Refusal, patience_s: float, now_s: float) -> None:
        """Refuse callers that have waited long enough; the host's own commands to the actor stay.

        While an outcome can't be written, the callers that wait for it are refused, too. Which these are is only known
        when the outcome is decided upon; but none of the others could be answered, either.
        """
        for envelope in [e for e in self.mailbox if now_s - e.arrived_s > patience_s]:
            if envelope.reply_to is not None:
                self.mailbox.remove(envelope)
                envelope.refused = True
                envelope.reply_to.answer(refusal)
            elif isinstance(envelope.command, Done | Failed):
                self._refuse_waiting(unconfirmed())

    def _refuse_waiting(self, refusal: Refusal) -> None:
        for reply_to in [reply_to for callers in self.waiting.values() for reply_to in callers]:
            reply_to.answer(refusal)
        self.waiting.clear()

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Start work beside the mailbox, which must not wait for it."""
        task = asyncio.create_task(work)
        self.side_tasks.add(task)
        task.add_done_callback(self.side_tasks.discard)

    # Repetitions

    def find_originals(self, envelopes: Sequence[Envelope], now_s: float) -> list[tuple[Envelope, str | None]]:
        """Make repetitions of calls under way the same operation as their originals.

        Return the other repetitions, with the name of the call that they repeat where that has just ended.
        """
        others: list[tuple[Envelope, str | None]] = []
        for place, envelope in enumerate(envelopes):
            if (attempt := envelope.repeats) is None or (own := envelope.command.once) is None:
                continue
            once = self.in_flight.claim(attempt.digest, own, self.waiting) or _first_of(attempt, envelopes[:place])
            if once is not None:
                envelope.stand_for(once)
            else:
                others.append((envelope, self.ended.claim(attempt.digest, now_s)))
        return others

    # Waiting callers

    def wait(self, topic: str, reply_to: ReplyTo) -> None:
        """Have the caller wait for a topic; send it at once what was said of the topic before."""
        self.in_flight.heard(topic)
        self.waiting.setdefault(topic, []).append(reply_to)
        for reply in self.in_flight.said(topic):
            reply_to.answer(reply, last=False)
        reply_to.on_cancel = partial(self.left, topic)

    def left(self, topic: str) -> None:
        """End the work of a topic if all its callers have gone."""
        callers = self.waiting.get(topic)
        if callers is not None and all(reply_to.cancelled for reply_to in callers):
            del self.waiting[topic]
            self.in_flight.unheard(topic)

    def _say(self, topic: str, reply: Reply) -> None:
        for reply_to in self.waiting.get(topic, ()):
            reply_to.answer(reply, last=False)

    def answer_waiting(self, decision: Decision, now_s: float) -> None:
        """Answer all that wait for the decision's topics."""
        heard = False
        for topic, reply in decision.answers.items():
            for reply_to in self.waiting.pop(topic, ()):
                heard = heard or not reply_to.cancelled
                reply_to.answer(reply)
        for digest, name in filter(None, map(idempotency_keys.repeated, decision.marks)):
            self.ended.add(digest, name, now_s, heard=heard)

    def decided(self, command: Command) -> None:
        """Close a command that is dealt with; an outcome's intent may now start again."""
        if isinstance(command, Done | Failed):
            self.in_flight.decided(command.intent.key)

    def watch(self, reply_to: ReplyTo) -> None:
        """Show the caller the present view, and each further one, until the view is final."""
        view = self.behaviour.view(self.actor_id, self.state)
        if view is None:
            reply_to.answer(not_found("view"))
            return
        final = self.behaviour.final(self.state)
        reply_to.answer(view, final)
        if not final:
            self.watchers.append(reply_to)

    def show_watchers(self) -> None:
        """Show the present view to all that watch; end them when it is final."""
        watchers = [reply_to for reply_to in self.watchers if not reply_to.cancelled]
        self.watchers = watchers
        if watchers and (view := self.behaviour.view(self.actor_id, self.state)) is not None:
            last = self.behaviour.final(self.state)
            self.watchers = [] if last else watchers
            for reply_to in watchers:
                reply_to.answer(view, last)

    def forget_cancelled(self) -> None:
        """Drop callers that no longer wait."""
        self.watchers = [reply_to for reply_to in self.watchers if not reply_to.cancelled]
        for topic in list(self.waiting):
            self.waiting[topic] = [reply_to for reply_to in self.waiting[topic] if not reply_to.cancelled]
            if not self.waiting[topic]:
                del self.waiting[topic]

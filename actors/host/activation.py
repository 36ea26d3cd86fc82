"""Actor in memory: its written state, the decisions upon it, and the writes that make them true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from ..domain import idempotency_keys
from ..domain.behaviour import Behaviour, Decision, Event
from ..domain.errors import idempotency_conflict
from ..domain.payments.payouts import open_payout
from ..domain.sums import hour_of
from ..ports import Append, Stored
from .kept_answers import kept_of, known
from .turn import Envelope, Turn

# After so many events a snapshot spares the next activation folding them.
_SNAPSHOT_EVERY: Final = 64
# Unconfirmed writes that are remembered, the first and the last ones. A store that stood still may yet make the first.
_ATTEMPTS_MAX: Final = 8
_log = structlog.get_logger(__name__)


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


def _open_payout_ms(events: Sequence[Event]) -> int | None:
    """Return since when a payout is unpaid, as `Append.open_payout_ms` has it."""
    unpaid = open_payout(events)
    return None if unpaid is None else events[-1].at_ms if unpaid else 0


class Activation:
    """State of a live actor, with the writes that may have changed it. It holds nothing that the journal lacks.

    `state` is the written state; `version` the length of its journal; `loaded` is False before the first read and
    whenever a write's outcome is unknown, which is then among the `unconfirmed`.
    """

    def __init__(self, actor_id: str, partition: int, behaviour: Behaviour[Any]) -> None:
        self.actor_id = actor_id
        self.partition = partition
        self.behaviour = behaviour
        self.state: Any = None
        self.version = 0
        self.loaded = False
        self.unconfirmed: list[tuple[Append, Turn]] = []

    def decide(self, envelopes: Sequence[Envelope], now_ms: int) -> Turn:
        """Decide the commands one after the other, each upon the state that the ones before it lead to."""
        turn = Turn(self.state)
        for envelope in envelopes:
            decision = self._decision(envelope, turn, now_ms)
            if decision.after is not None:
                turn.state = decision.after
            else:
                for event in decision.events:
                    turn.state = self.behaviour.evolve(self.actor_id, turn.state, event)
            turn.events.extend(decision.events)
            turn.opening = decision.opening or turn.opening
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
        turn.sums = self._sums_of(turn)
        snapshot_due = version // _SNAPSHOT_EVERY > self.version // _SNAPSHOT_EVERY
        return Append(
            partition=self.partition,
            epoch=epoch,
            actor_id=self.actor_id,
            expected_version=self.version,
            events=[behaviour.encode_event(event) for event in turn.events],
            opening=None if turn.opening is None else behaviour.encode_event(turn.opening),
            snapshot=behaviour.encode_state(turn.state) if snapshot_due else None,
            due_ms=behaviour.due_ms(turn.state),
            keep_ms=behaviour.keep_ms(turn.state, now_ms),
            kept=[kept_of(mark) for mark in turn.marks.values()],
            liability_change_msat=behaviour.liability(turn.state).value - behaviour.liability(self.state).value,
            hour=hour_of(turn.events),
            sums=turn.sums,
            open_payout_ms=_open_payout_ms(turn.events),
        )

    def _sums_of(self, turn: Turn) -> Mapping[str, int]:
        if not turn.events:
            return {}
        try:
            return self.behaviour.sums(self.state, turn.events, turn.state)
        except Exception as error:
            # A figure that can't be told must not keep a payment out of its journal. The audit names the hour.
            _log.error("sums_not_told", actor_id=self.actor_id, error_type=type(error).__name__)
            return {}

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
        return None

    def lost_track(self, stored: Stored) -> bool:
        """Return whether the store has made a write, and it can't be said which one: its answers are lost."""
        lost = bool(self.unconfirmed) and stored.snapshot_version + len(stored.events) != self.version
        if lost:
            self.unconfirmed.clear()
        return lost

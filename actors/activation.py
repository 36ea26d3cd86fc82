"""An actor in memory: its state, its mailbox, and who waits for what."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .domain.behaviour import Behaviour, Command, Decision, Event
from .inbox import Caller


@dataclass(slots=True)
class Envelope:
    """A command in a mailbox. `caller` is None for the host's own: wakes and outcomes, which nobody waits for."""

    command: Command
    caller: Caller | None
    arrived_s: float


@dataclass(slots=True)
class Turn:
    """What a run over the mailbox came to: the state that will be, and what is to follow once it is written."""

    state: Any
    events: list[Event] = field(default_factory=list)
    outcomes: list[tuple[Envelope, Decision]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Activation:
    """A live actor. Nothing in it outlives its last use that the journal does not hold.

    `state` is what is written; `version` the length of its journal; `loaded` is False before the first read and
    whenever a write's outcome is unknown.
    """

    actor_id: str
    partition: int
    behaviour: Behaviour[Any]
    last_used_s: float
    state: Any = None
    version: int = 0
    loaded: bool = False
    mailbox: deque[Envelope] = field(default_factory=deque)
    pump: asyncio.Task[None] | None = None
    waiting: dict[str, list[Caller]] = field(default_factory=dict)
    watchers: list[Caller] = field(default_factory=list)
    running: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether it can be dropped from memory: nothing runs, nobody waits."""
        return not (self.mailbox or self.pump or self.running or self.waiting or self.watchers)

    def decide(self, envelopes: list[Envelope], now_ms: int) -> Turn:
        """Decides the commands one after the other, each upon the state that the ones before it lead to."""
        turn = Turn(self.state)
        for envelope in envelopes:
            decision = self.behaviour.decide(self.actor_id, turn.state, envelope.command, now_ms)
            for event in decision.events:
                turn.state = self.behaviour.evolve(self.actor_id, turn.state, event)
            turn.events.extend(decision.events)
            turn.outcomes.append((envelope, decision))
        return turn

    def restore(self, state: Any, version: int) -> None:
        """Takes over what was read from the store."""
        self.state, self.version, self.loaded = state, version, True

    def answer_waiting(self, decision: Decision) -> None:
        """Answers all that wait for the decision's topics."""
        for topic, reply in decision.answers.items():
            for caller in self.waiting.pop(topic, ()):
                caller.answer(reply)

    def show_watchers(self) -> None:
        """Shows the present view to all that watch; ends them when it is final."""
        watchers = [caller for caller in self.watchers if not caller.cancelled]
        self.watchers = watchers
        if watchers and (view := self.behaviour.view(self.actor_id, self.state)) is not None:
            last = self.behaviour.final(self.state)
            self.watchers = [] if last else watchers
            for caller in watchers:
                caller.answer(view, last)

    def forget_cancelled(self) -> None:
        """Drops callers that no longer wait."""
        self.watchers = [caller for caller in self.watchers if not caller.cancelled]
        for topic in list(self.waiting):
            self.waiting[topic] = [caller for caller in self.waiting[topic] if not caller.cancelled]
            if not self.waiting[topic]:
                del self.waiting[topic]

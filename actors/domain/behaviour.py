"""How an actor behaves, as pure functions, and the words in which it talks with the host that runs it.

The host feeds commands to `decide`, writes the events, folds them into the state with `evolve`, and only then answers
and acts. What is to be done outside is an `Intent`; its outcome comes back as a command, `Done` or `Failed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from .errors import Refusal
from .llm.provider_faults import ModelFault
from .money import ZERO, Msat

# The contract's 24 hours, and an hour for clocks that differ.
_KEEP_KEYED_MS: Final = 25 * 3_600_000
# Longer than the router goes on sending a command again.
_KEEP_OURS_MS: Final = 10 * 60_000
# How long the SDKs of the model providers wait before they send again what they gave up: half a second, doubled each
# time, at most eight (source: their `_base_client.py`); and how long what they send takes to get here.
_PAUSE_FIRST_MS: Final = 500
_PAUSE_MAX_MS: Final = 8_000
_ON_THE_WAY_MS: Final = 2_000
_KEEP_BRIEF_MS: Final = 15_000


class Command(msgspec.Struct, frozen=True):
    """A message to an actor. Every command is safe to repeat: the router sends it again when a host died."""


class Wake(Command, frozen=True):
    """A time that the actor asked for (`due_ms`) has come."""


class TakeUp(Command, frozen=True):
    """The actor was just activated from its journal: whatever was under way when it was last in memory is lost."""


class Reply(msgspec.Struct, frozen=True):
    """An answer to a command."""


class Event(msgspec.Struct, frozen=True):
    """Something that happened to an actor, as the journal keeps it. `at_ms`: milliseconds since the epoch."""

    at_ms: int


class Intent(msgspec.Struct, frozen=True):
    """Something to be done outside. While `key` runs for an actor, it is not started a second time."""

    key: str

    @property
    def ends_unheard(self) -> bool:
        """Whether it is ended when nobody waits for its key any more; it still has an outcome then."""
        return False

    @property
    def lives_on_ms(self) -> int:
        """How long it still goes on then, because the client may come again for it."""
        return 0

    @property
    def free_to_repeat(self) -> bool:
        """Whether breaking it off costs nothing, since it only asks for what another host can ask for as well."""
        return False


class Done(Command, frozen=True):
    """An intent came to its end, with its result."""

    intent: Intent
    result: Any


class Failed(Command, frozen=True):
    """An intent failed; when not `permanent`, it may succeed later. `fault`: why the model gave nothing.

    `of_request`: the client's request itself is why, and neither we nor a provider of ours.
    """

    intent: Intent
    permanent: bool
    retry_after_ms: int = 0
    fault: ModelFault | None = None
    of_request: bool = False


class Once(msgspec.Struct, frozen=True, omit_defaults=True):
    """Makes a command's operation one that is done once, however often it is sent.

    name: which operation of the actor it is. digest: of what was asked; the same name with another one is a conflict.
    keyed: the client chose the name and may come back with it; else only we send it again, after a host died.
    lineage: that of the credential (see `Grant`) whose key it is; empty where there are no credentials, and in journals
    of formats 1 and 2.
    """

    name: str
    digest: str
    keyed: bool
    lineage: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True):
    """One of the times that a client's library sends the same request: it gave up waiting for the ones before.

    digest: of all that makes it the same. number: 0 for the first time.
    """

    digest: str
    number: int

    @property
    def next_within_ms(self) -> int:
        """How soon after this one was given up the next one is here, if it comes at all."""
        return min(_PAUSE_FIRST_MS << min(self.number, 10), _PAUSE_MAX_MS) + _ON_THE_WAY_MS


class Mark(msgspec.Struct, frozen=True):
    """The answer to an operation that is done once, kept beside the journal for `keep_ms`.

    `brief`: it is of use for as long as a client's library takes to send its next attempt.
    """

    once: Once
    reply: Reply
    brief: bool = False

    @property
    def keep_ms(self) -> int:
        """Longer than anybody comes back for it: a client with its key, or else we with a command sent again."""
        if self.brief:
            return _KEEP_BRIEF_MS
        return _KEEP_KEYED_MS if self.once.keyed else _KEEP_OURS_MS


class History(msgspec.Struct, frozen=True):
    """A stretch of the journal: events whose `seq` is above `after`, enough of them for `limit` entries.

    With `holding`, instead the newest `limit` events in whose JSON this text stands, the newest first. `context` is
    what of the state telling them needs.
    """

    after: int
    limit: int
    holding: str | None = None
    context: Any = None


class Alarm(msgspec.Struct, frozen=True):
    """Something that the operator must know: an event of the log at the level of an error, with ids and amounts."""

    event: str
    fields: Mapping[str, str | int]


class Decision(msgspec.Struct, frozen=True):
    """What a command leads to.

    events: to be journaled, all or none, before anything else of this takes effect.
    reply: the answer to this command; None when there is nothing to say or the caller is to wait.
    wait_for: the caller waits until some later decision answers this topic.
    answers: answers to all that wait for a topic.
    intents: outside work that isn't in the state because nothing was journaled for it; it dies with the host.
    watch: the caller wants the view now and after each change, until it is final.
    marks: answers to be kept with the events, for whoever sends the same command again.
    history: the caller wants what the journal says of it, as `Behaviour.history` tells it.
    alarms: what is logged as an error once this has taken effect.
    """

    events: tuple[Event, ...] = ()
    reply: Reply | Refusal | None = None
    wait_for: str | None = None
    answers: Mapping[str, Reply | Refusal] = {}
    intents: tuple[Intent, ...] = ()
    watch: bool = False
    marks: tuple[Mark, ...] = ()
    history: History | None = None
    alarms: tuple[Alarm, ...] = ()


NOTHING = Decision()

StateT = TypeVar("StateT")


class Behaviour(Protocol[StateT]):
    """One kind of actor. All methods are pure; a state is an immutable value, None before the first event."""

    def decide(self, actor_id: str, state: StateT | None, command: Command, now_ms: int) -> Decision:
        """What the command leads to in this state."""
        ...

    def evolve(self, actor_id: str, state: StateT | None, event: Event) -> StateT:
        """The state after the event. Raises `BooksError` when the books would not close."""
        ...

    def intents(self, actor_id: str, state: StateT) -> Sequence[Intent]:
        """What must be under way outside in this state."""
        ...

    def liability(self, state: StateT | None) -> Msat:
        """What the wallet must hold for the actor; not what is in a payout, which the wallet has set aside itself."""
        ...

    def done(self, state: StateT) -> bool:
        """Whether it took money, nothing can follow, and nothing is owed that could be paid out."""
        ...

    def due_ms(self, state: StateT) -> int | None:
        """When the actor must be woken, whatever happens: its next deadline."""
        ...

    def keep_ms(self, state: StateT, now_ms: int) -> int | None:
        """How long the store keeps the actor from now on; None for good."""
        ...

    def view(self, actor_id: str, state: StateT) -> Reply | None:
        """What those who watch the actor see; None when it can't be watched."""
        ...

    def final(self, state: StateT) -> bool:
        """Whether the view can't change any more by itself, so that watching ends."""
        ...

    def history(self, events: Sequence[Event], asked: History) -> Reply | Refusal:
        """What these events say to whoever asked for the stretch."""
        ...

    def again(
        self, actor_id: str, state: StateT | None, command: Command, reply: Reply, now_ms: int, *, former: bool
    ) -> Decision | None:
        """What is said to a command that was answered with this before; None when it is to be decided upon.

        former: an earlier version kept it, and did not say by which credential of the actor it was bought.
        """
        ...

    def encode_event(self, event: Event) -> bytes:
        """The event as the journal keeps it."""
        ...

    def decode_event(self, data: bytes) -> Event:
        """An event of the journal. Raises `UnknownEventError` for one that this version doesn't know."""
        ...

    def encode_state(self, state: StateT) -> bytes:
        """A snapshot."""
        ...

    def decode_state(self, data: bytes) -> StateT:
        """A state from its snapshot."""
        ...


class NoHistory:
    """The part of `Behaviour` that an actor has without credentials, whose journal nobody may read."""

    def again(
        self, actor_id: str, state: Any, command: Command, reply: Reply, now_ms: int, *, former: bool
    ) -> Decision | None:
        """The same."""
        return Decision(reply=reply)

    def history(self, events: Sequence[Event], asked: History) -> Reply:
        """Never called. Raises `BooksError`."""
        raise BooksError("this actor's journal is not for its clients")


class Stateless(NoHistory):
    """The part of `Behaviour` that an actor without events has: it answers, and nothing of it is kept."""

    def evolve(self, actor_id: str, state: None, event: Event) -> None:
        """Never called. Raises `BooksError`."""
        raise BooksError("an actor without a state has no events")

    def intents(self, actor_id: str, state: None) -> Sequence[Intent]:
        """None."""
        return ()

    def liability(self, state: None) -> Msat:
        """Nothing."""
        return ZERO

    def done(self, state: None) -> bool:
        """There is nothing that could be."""
        return False

    def due_ms(self, state: None) -> int | None:
        """Never."""
        return None

    def keep_ms(self, state: None, now_ms: int) -> int | None:
        """There is nothing to keep."""
        return None

    def view(self, actor_id: str, state: None) -> Reply | None:
        """It can't be watched."""
        return None

    def final(self, state: None) -> bool:
        """It is, always."""
        return True

    def encode_event(self, event: Event) -> bytes:
        """Never called. Raises `BooksError`."""
        raise BooksError("an actor without a state has no events")

    def decode_event(self, data: bytes) -> Event:
        """Never called. Raises `UnknownEventError`."""
        raise UnknownEventError("an actor without a state has no events")

    def encode_state(self, state: None) -> bytes:
        """Never called. Raises `BooksError`."""
        raise BooksError("an actor without a state has no snapshots")

    def decode_state(self, data: bytes) -> None:
        """Never called. Raises `UnknownEventError`."""
        raise UnknownEventError("an actor without a state has no snapshots")


class BooksError(Exception):
    """The double entry of an actor does not close: a defect of ours. Nothing may be written after it."""


class UnknownEventError(Exception):
    """The journal holds an event that this version of the program can't read: it must not guess."""

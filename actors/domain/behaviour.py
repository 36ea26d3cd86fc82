"""Actor behaviour as pure functions, and the messages that an actor exchanges with the host that runs it.

The host feeds commands to `decide`, writes the events, folds them into the state with `evolve`, and only then answers
and acts. Work outside the actor is an `Intent`; its outcome comes back as a command, `Done` or `Failed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Protocol

import msgspec
from typing_extensions import TypeVar

from .backoff import pause_after
from .credentials.caveats import Grant
from .errors import Refusal
from .money import ZERO, Msat
from .provider_faults import ModelFault

# The contract's 24 hours, and an hour for clocks that differ.
_KEEP_KEYED_MS: Final = 25 * 3_600_000
# Longer than the router goes on sending a command again.
_KEEP_OURS_MS: Final = 10 * 60_000
# The model providers' SDKs pause before they retry: half a second, doubled each time, at most eight seconds (source:
# their `_base_client.py`). The retry then takes a while to get here.
_PAUSE_FIRST_MS: Final = 500
_PAUSE_MAX_MS: Final = 8_000
_ON_THE_WAY_MS: Final = 2_000
_KEEP_BRIEF_MS: Final = 15_000


class Reply(msgspec.Struct, frozen=True):
    """An answer to a command."""


ReplyT_co = TypeVar("ReplyT_co", bound=Reply, covariant=True, default=Any)
PartT_co = TypeVar("PartT_co", bound=Reply, covariant=True, default=Any)


class Command(msgspec.Struct, Generic[ReplyT_co, PartT_co], frozen=True):
    """A message to an actor, with the types of its reply and of the parts that may come before it.

    Every command is safe to repeat: the router sends it again when a host died. The properties are those of commands
    that have no such field.
    """

    @property
    def once(self) -> Once | None:
        """Identity of the operation, for commands that are done once."""
        return None

    @property
    def attempt(self) -> Attempt | None:
        """Attempt of a client's library that the command is, if it is one."""
        return None

    @property
    def grant(self) -> Grant | None:
        """Permissions of the caller's credential, for commands that need one."""
        return None


class Wake(Command, frozen=True):
    """A time that the actor asked for (`due_ms`) has come."""


class TakeUp(Command, frozen=True):
    """Command after activation from the journal: all work that was under way in the actor's last life is lost."""


class Event(msgspec.Struct, frozen=True):
    """A fact that happened to an actor, as the journal keeps it. `at_ms`: milliseconds since the epoch."""

    at_ms: int


class Intent(msgspec.Struct, frozen=True):
    """Work to be done outside. While `key` runs for an actor, the host does not start it a second time."""

    key: str

    @property
    def ends_unheard(self) -> bool:
        """True if the host stops the intent once no caller waits for its key; it still has an outcome then."""
        return False

    @property
    def lives_on_ms(self) -> int:
        """Grace period in ms before that stop, because the client may come again for the outcome."""
        return 0

    @property
    def free_to_repeat(self) -> bool:
        """True if breaking the intent off costs nothing, because another host can ask the same question."""
        return False

    @property
    def once(self) -> Once | None:
        """Identity of the operation that the intent carries out, for intents that have such a field."""
        return None

    @property
    def attempt(self) -> Attempt | None:
        """Attempt of a client's library at the operation, for intents that have such a field."""
        return None


class Done(Command, frozen=True):
    """The successful outcome of an intent, with its result."""

    intent: Intent
    result: Any


class Failed(Command, frozen=True):
    """The failure of an intent; when not `permanent`, it may succeed later. `fault`: why the model gave nothing.

    `of_request`: the client's request itself is the cause, and neither we nor a provider of ours.
    """

    intent: Intent
    permanent: bool
    retry_after_ms: int = 0
    fault: ModelFault | None = None
    of_request: bool = False


class Once(msgspec.Struct, frozen=True, omit_defaults=True):
    """Identity of an operation that is done once, however often its command is sent.

    name: names the operation within the actor. digest: of the request; the same name with another digest is a conflict.
    keyed: the client chose the name and may come back with it; else only we send it again, after a host died.
    lineage: of the credential (see `Grant`) that owns the key; empty where there are no credentials, and in journals
    of formats 1 and 2.
    """

    name: str
    digest: str
    keyed: bool
    lineage: tuple[str, ...] = ()


class Attempt(msgspec.Struct, frozen=True):
    """One attempt of a client's library at a request; the library gave up waiting for the attempts before it.

    digest: of all that makes the attempts the same request. number: 0 for the first attempt. headed_after_ms: of a
    stream, the time after the notice of its hold by which the library has its head, and sends nothing again.
    """

    digest: str
    number: int
    headed_after_ms: int | None = None

    @property
    def next_within_ms(self) -> int:
        """Longest time in ms from giving this attempt up until the next one arrives, if one comes at all."""
        return pause_after(self.number, _PAUSE_FIRST_MS, _PAUSE_MAX_MS) + _ON_THE_WAY_MS


class Mark(msgspec.Struct, frozen=True):
    """The answer to an operation that is done once, kept beside the journal for `keep_ms`.

    `brief`: the mark is needed only until a client's library has sent its next attempt.
    """

    once: Once
    reply: Reply
    brief: bool = False

    @property
    def keep_ms(self) -> int:
        """Retention in ms, beyond the last possible repetition: by a client with its key, or else by the router."""
        if self.brief:
            return _KEEP_BRIEF_MS
        return _KEEP_KEYED_MS if self.once.keyed else _KEEP_OURS_MS


class History(msgspec.Struct, frozen=True):
    """A stretch of the journal: events whose `seq` is above `after`, enough of them for `limit` entries.

    With `holding`, instead the newest `limit` events whose JSON contains this text, the newest first. `context` is the
    part of the state that presenting them needs.
    """

    after: int
    limit: int
    holding: str | None = None
    context: Any = None


class Alarm(msgspec.Struct, frozen=True):
    """A condition that the operator must know: an event of the log at the level of an error, with ids and amounts."""

    event: str
    fields: Mapping[str, str | int]


class Decision(msgspec.Struct, frozen=True):
    """The consequences of a command.

    events: to be journaled, all or none, before any other consequence takes effect.
    reply: the answer to this command; None when there is nothing to say or the caller is to wait.
    wait_for: the caller waits until some later decision answers this topic.
    answers: answers to all callers that wait for a topic.
    intents: outside work that isn't in the state because nothing was journaled for it; it dies with the host.
    watch: the caller wants the view now and after each change, until it is final.
    marks: answers to be kept with the events, for a client that sends the same command again.
    history: a stretch of the journal that the caller wants, as `Behaviour.history` presents it.
    alarms: events that are logged as errors once the decision has taken effect.
    after: the state after the events, where deciding has led to it; None where they are still to be folded.
    opening: an event that takes the place of the journal's first, with the events: it holds less than that one.
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
    after: Any = None
    opening: Event | None = None


NOTHING = Decision()

StateT = TypeVar("StateT")


class Behaviour(Protocol[StateT]):
    """One kind of actor. All methods are pure; a state is an immutable value, None before the first event."""

    def decide(self, actor_id: str, state: StateT | None, command: Command, now_ms: int) -> Decision:
        """Decide what follows from the command in this state."""
        ...

    def evolve(self, actor_id: str, state: StateT | None, event: Event) -> StateT:
        """Return the state after the event. Raises `BooksError` when the books would not close."""
        ...

    def intents(self, actor_id: str, state: StateT) -> Sequence[Intent]:
        """Return the intents that must be under way in this state."""
        ...

    def liability(self, state: StateT | None) -> Msat:
        """Return the amount that the wallet must hold for the actor, payouts excluded: the wallet sets those aside."""
        ...

    def sums(self, before: StateT | None, events: Sequence[Event], after: StateT) -> Mapping[str, int]:
        """Return what these events add to the operator's sums of their hour (see `domain/sums.py`).

        They were decided upon together, and lead from one state to the other.
        """
        ...

    def done(self, state: StateT) -> bool:
        """Return True if the actor took money, can't go on, and owes nothing that could be paid out."""
        ...

    def due_ms(self, state: StateT) -> int | None:
        """Return the actor's next deadline, at which it must be woken whatever happens; None without one."""
        ...

    def keep_ms(self, state: StateT, now_ms: int) -> int | None:
        """Return how long the store keeps the actor from now on, in ms; None for good."""
        ...

    def view(self, actor_id: str, state: StateT) -> Reply | None:
        """Return the view that the actor's watchers see; None when the actor can't be watched."""
        ...

    def final(self, state: StateT) -> bool:
        """Return True if the view can't change any more by itself, so that watching ends."""
        ...

    def history(self, events: Sequence[Event], asked: History) -> Reply | Refusal:
        """Return the answer to the caller that asked for this stretch of the journal."""
        ...

    def again(
        self, actor_id: str, state: StateT | None, command: Command, reply: Reply, now_ms: int, *, former: bool
    ) -> Decision | None:
        """Decide on a command that was answered with this reply before; None leaves it to `decide`.

        former: an earlier version kept the reply, and did not record which credential of the actor bought it.
        """
        ...

    def encode_event(self, event: Event) -> bytes:
        """Encode the event as the journal keeps it."""
        ...

    def decode_event(self, data: bytes) -> Event:
        """Decode an event of the journal. Raises `UnknownEventError` for one that this version doesn't know."""
        ...

    def encode_state(self, state: StateT) -> bytes:
        """Encode the state as a snapshot."""
        ...

    def decode_state(self, data: bytes) -> StateT:
        """Decode a state from its snapshot."""
        ...


class NoHistory:
    """The part of `Behaviour` for actors without credentials, whose journal no client may read."""

    def again(
        self, actor_id: str, state: Any, command: Command, reply: Reply, now_ms: int, *, former: bool
    ) -> Decision | None:
        """Return the same reply again."""
        return Decision(reply=reply)

    def history(self, events: Sequence[Event], asked: History) -> Reply:
        """Raise `BooksError`: no command asks for this actor's journal."""
        raise BooksError("this actor's journal is not for its clients")


class Stateless(NoHistory):
    """The part of `Behaviour` for actors without events: they answer, and nothing of them is kept."""

    def evolve(self, actor_id: str, state: None, event: Event) -> None:
        """Raise `BooksError`: there are no events."""
        raise BooksError("an actor without a state has no events")

    def intents(self, actor_id: str, state: None) -> Sequence[Intent]:
        """Return no intents."""
        return ()

    def liability(self, state: None) -> Msat:
        """Return zero."""
        return ZERO

    def sums(self, before: None, events: Sequence[Event], after: None) -> Mapping[str, int]:
        """Return nothing: there are no events."""
        return {}

    def done(self, state: None) -> bool:
        """Return False: the actor takes no money."""
        return False

    def due_ms(self, state: None) -> int | None:
        """Return None: the actor has no deadlines."""
        return None

    def keep_ms(self, state: None, now_ms: int) -> int | None:
        """Return None: the store has nothing to keep."""
        return None

    def view(self, actor_id: str, state: None) -> Reply | None:
        """Return None: the actor can't be watched."""
        return None

    def final(self, state: None) -> bool:
        """Return True: the actor has no view that could change."""
        return True

    def encode_event(self, event: Event) -> bytes:
        """Raise `BooksError`: there are no events."""
        raise BooksError("an actor without a state has no events")

    def decode_event(self, data: bytes) -> Event:
        """Raise `UnknownEventError`: there are no events."""
        raise UnknownEventError("an actor without a state has no events")

    def encode_state(self, state: None) -> bytes:
        """Raise `BooksError`: there are no snapshots."""
        raise BooksError("an actor without a state has no snapshots")

    def decode_state(self, data: bytes) -> None:
        """Raise `UnknownEventError`: there are no snapshots."""
        raise UnknownEventError("an actor without a state has no snapshots")


class BooksError(Exception):
    """Error for an actor whose double entry does not close: a defect of ours. Nothing may be written after it."""


class UnknownEventError(Exception):
    """Error for a journal with an event that this version of the program can't read, and must not guess at."""

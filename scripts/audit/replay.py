"""One actor under audit: its journal folded by the domain, and beside it the auditor's own books."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from ...actors.adapters.redis.audit import EVENTS_AT_ONCE, StoredActor
from ...actors.adapters.redis.scan import ActorKey
from ...actors.domain.behaviour import Behaviour, BooksError, UnknownEventError
from ...actors.domain.money import MoneyError
from ...actors.partitioning import partition_of
from .books import AuditError, Books, books_of
from .difference import Difference
from .hours import HourBook, Hours

# Names of the domain for amounts in the auditor's books, where they differ.
_NAMES: Final = {
    "ses": {"received": "deposited", "available": "balance"},
    "job": {},
}
_COMMON: Final = ("received", "held", "spent", "owed", "pending", "refunded")


class Folded(msgspec.Struct, frozen=True):
    """Books and hourly sums of an actor after all its events, and what does not agree in it."""

    books: Books
    differences: list[Difference]
    hours: Hours = {}


class Journals(Protocol):
    """Reader of journals."""

    async def more(self, key: ActorKey, first: int, end: int) -> Sequence[bytes]:
        """Return events number `first` to before `end` (see `AuditStore`). Raises `TransientError`."""
        ...


async def fold(stored: StoredActor, store: Journals, behaviours: Mapping[str, Behaviour[Any]]) -> Folded:
    """Fold the journal from its beginning. Raises `TransientError`. A failure to fold is a difference."""
    actor_id, number = stored.key.actor_id, 0
    try:
        books, behaviour = books_of(actor_id), behaviours[actor_id.partition("_")[0]]
    except AuditError as error:
        return Folded(Books(), [Difference(f"a journal without an actor: {error}", actor_id)])
    differences = []
    if partition_of(actor_id) != stored.key.partition:
        expected, found = f"partition {partition_of(actor_id)}", f"partition {stored.key.partition}"
        differences.append(
            Difference("the journal is in another partition than its actor", actor_id, None, expected, found)
        )
    if stored.trouble is not None:
        differences.append(Difference(stored.trouble, actor_id))
    elif stored.snapshot is not None and not stored.length:
        differences.append(Difference("there is a snapshot, and no journal", actor_id))
    elif stored.snapshot_version > stored.length:
        expected, found = f"at most version {stored.length}", f"version {stored.snapshot_version}"
        differences.append(Difference("the snapshot is ahead of its journal", actor_id, None, expected, found))
    elif stored.snapshot is not None and stored.snapshot_version < 1:
        differences.append(Difference("the snapshot has no version", actor_id))
    state, events, hours = None, list(stored.events), HourBook()
    while number < stored.length:
        if not events:
            events = list(await store.more(stored.key, number, min(number + EVENTS_AT_ONCE, stored.length)))
            if not events:
                return Folded(books, [], hours.sums)  # The actor is gone: it was unpaid and its time is over.
        data = events.pop(0)
        number += 1
        try:
            # The event is decoded first, so that the auditor's books get fields that exist and amounts that are
            # numbers.
            event = behaviour.decode_event(data)
            hours.take(msgspec.json.decode(data), books)
            state = behaviour.evolve(actor_id, state, event)
        except (AuditError, BooksError, MoneyError, UnknownEventError, KeyError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            what = f"event {number} can't follow on those before it: {why}"
            return Folded(books, [*differences, Difference(what, actor_id)], hours.sums)
        if number == stored.snapshot_version:
            differences += _snapshot_differences(actor_id, behaviour, stored, state)
    # The exact time may follow another version's rule. Without any time, the actor would never be woken for its work.
    if state is not None and behaviour.due_ms(state) is not None and not stored.due:
        differences.append(Difference("nobody would look after it: it has no time at which it is due", actor_id))
    return Folded(books, differences + _domain_differences(actor_id, books, state), hours.sums)


def _snapshot_differences(
    actor_id: str, behaviour: Behaviour[Any], stored: StoredActor, state: Any
) -> list[Difference]:
    if stored.snapshot is None:
        return []
    try:
        snapshot = behaviour.decode_state(stored.snapshot)
    except (UnknownEventError, BooksError, MoneyError) as error:
        return [Difference(f"the snapshot can't be read: {error}", actor_id)]
    if snapshot == state:
        return []
    for name in type(state).__struct_fields__:
        expected, found = getattr(state, name), getattr(snapshot, name)
        if expected != found:
            what = f"the snapshot at version {stored.snapshot_version} has another {name} than the journal"
            return [Difference(what, actor_id, None, repr(expected), repr(found))]
    return []


def _domain_differences(actor_id: str, books: Books, state: Any) -> list[Difference]:
    """Return differences between the domain's own books and the auditor's."""
    names = _NAMES[actor_id.partition("_")[0]]
    kept = state.books if state is not None else None
    found = []
    for name in (*_COMMON, *(name for name in names if name not in _COMMON)):
        theirs = getattr(kept, names.get(name, name)).value if kept is not None else 0
        ours = getattr(books, name)
        if ours != theirs:
            what = f"{names.get(name, name)} is not what its events add up to"
            found.append(Difference(what, actor_id, None, f"{ours} msat", f"{theirs} msat"))
    return found

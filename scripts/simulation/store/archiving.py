"""Operator of a run, which archives finished actors to a list while all else goes on, by the program's own rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from ....actors.adapters.redis.audit import StoredActor
from ....actors.adapters.redis.scan import ActorKey
from ....actors.domain.behaviour import Behaviour
from ....actors.ports import TransientError
from ...audit.archive import ArchivedActor, ArchiveError, Archiver
from ..world import Fault, World
from .server import Access, StoreAccess, Writes

# Operators wait for days. Here the wait is so short that an invoice may still be open. It is longer where clocks are
# wrong, as a host that is ahead takes an open invoice for lapsed.
_RETENTION_MS: Final = 4_000
_RETENTION_BY_WRONG_CLOCKS_MS: Final = 130_000
_PAUSE_S: Final = 3.0, 25.0
_AT_ONCE: Final = 8


class Books(Protocol):
    """Books of what is archived."""

    def archived(self, actor_id: str, events: Sequence[bytes]) -> None:
        """Note that these events are in the archive."""
        ...

    def uncredited(self) -> bool:
        """Return whether the node has received a payment that no actor has credited yet."""
        ...


class _CutOffError(Exception):
    """Death of an archive run after it has written, and before it deletes."""


class SimulatedActors:
    """Store as `AuditStore` reads it and `RedisArchive` deletes from it. Raises `TransientError`."""

    def __init__(self, access: Access) -> None:
        self._ask = access.ask
        self._data = access.data

    async def actors(self) -> AsyncIterator[Sequence[ActorKey]]:
        """Yield all actors, a few at a time."""
        found = [ActorKey(*place) for place in await self._ask(self._data.actors)]
        for start in range(0, len(found), _AT_ONCE):
            yield found[start : start + _AT_ONCE]

    async def read(self, actors: Collection[ActorKey]) -> Sequence[StoredActor]:
        """Return these actors, each as it is when its turn comes."""
        read = [await self._read(key) for key in actors]
        return [stored for stored in read if stored is not None]

    async def _read(self, key: ActorKey) -> StoredActor | None:
        seen = await self._ask(partial(self._data.look, key.partition, key.actor_id))
        if seen is None:
            return None
        stored, events, due = seen
        return StoredActor(key, stored.snapshot, stored.snapshot_version, len(events), events, due=due)

    async def more(self, key: ActorKey, first: int, end: int) -> Sequence[bytes]:
        """Return nothing: all events were read already."""
        return ()

    async def remove(self, key: ActorKey, length: int, sums: Mapping[str, int]) -> bool:
        """Delete an actor that is still as long as that; return whether it was."""
        return await self._ask(partial(self._data.remove, key.partition, key.actor_id, length), writes=Writes.KEYS)


@dataclass(eq=False)
class Operator:
    """Operator that archives now and then.

    A run of the archive may be killed after it has written, and before it deletes.
    """

    world: World
    store: StoreAccess
    behaviours: Mapping[str, Behaviour[Any]]
    books: Books

    async def run(self) -> None:
        """Archive again and again."""
        while True:
            await self.world.pause(self.world.chance.uniform(*_PAUSE_S))
            await self._archive()

    async def _archive(self) -> None:
        if self.books.uncredited():
            return  # An operator waits for days, in which it would be credited.
        actors = SimulatedActors(self.store)
        wrong = Fault.CLOCK in self.world.faults
        before_ms = self.world.now_ms() - (_RETENTION_BY_WRONG_CLOCKS_MS if wrong else _RETENTION_MS)
        try:
            count = await Archiver(actors, actors, self.behaviours, before_ms).take_out(self._write)
        except (TransientError, _CutOffError) as error:
            self.world.tell(f"archiving ends: {error!r}")
        except ArchiveError as error:
            self.world.violate(f"the archive finds books that do not close: {error}")
        else:
            self.world.tell(f"{count} archived")

    def _write(self, lines: Sequence[ArchivedActor]) -> None:
        for line in lines:
            self.books.archived(line.actor_id, [bytes(event) for event in line.events])
        if self.world.strikes(Fault.ARCHIVE_CUT, 0.2):
            raise _CutOffError

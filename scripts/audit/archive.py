"""Archive of journals: what is done and owes nothing moves from the store to a file (`satmeter archive`).

It may run while the server does. A line is on disk before its journal is deleted. A run that is cut off between the two
leaves both, and the next one archives the actor again: of lines about the same actor any one counts.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgspec

from ...actors.adapters.redis.audit import StoredActor
from ...actors.adapters.redis.scan import ActorKey
from ...actors.domain.behaviour import Behaviour, BooksError, UnknownEventError
from ...actors.domain.money import MoneyError
from ...actors.host.rehydrate import rehydrate
from ...actors.ports import Stored
from .replay import Journals, fold

_LINES_AT_ONCE: Final = 256
_TAIL_BYTES: Final = 65_536
_STOPPED: Final = "Nothing more is archived before this is mended, see `satmeter audit`"
DAY_MS: Final = 86_400_000


class ArchivedActor(msgspec.Struct, frozen=True):
    """A line of an archive: an actor's whole journal, as the store held it."""

    actor_id: str
    partition: int
    events: tuple[msgspec.Raw, ...]


class ArchiveError(Exception):
    """A reason why nothing may be deleted; the text says why."""


class Actors(Journals, Protocol):
    """Stored actors, all of them (see `AuditStore`). Raises `TransientError`."""

    def actors(self) -> AsyncIterator[Sequence[ActorKey]]:
        """Yield all actors, a few at a time."""
        ...

    async def read(self, actors: Collection[ActorKey]) -> Sequence[StoredActor]:
        """Return these actors as they are now."""
        ...


class Removal(Protocol):
    """Removal of what is archived (see `RedisArchive`). Raises `TransientError`."""

    async def remove(self, key: ActorKey, length: int, sums: Mapping[str, int]) -> bool:
        """Delete an actor that is still as long as that; return whether it was."""
        ...


class Archiver:
    """Archiver of what was done before a time."""

    def __init__(
        self, store: Actors, archive: Removal, behaviours: Mapping[str, Behaviour[Any]], before_ms: int
    ) -> None:
        self._store = store
        self._archive = archive
        self._behaviours = behaviours
        self._before_ms = before_ms

    async def run(self, path: Path) -> int:
        """Append to the file, delete what is in it for certain, and return how many actors that were.

        Raises `TransientError`, and `ArchiveError` for an actor whose own books do not close, for a file that can't be
        written to, and while another run writes to it.
        """
        try:
            return await self._run(path)
        except OSError as error:
            why = f"{path} can't be written to: {error.strerror}."
            raise ArchiveError(f"{why} Nothing was deleted that is not in it for certain; run it again.") from None

    async def _run(self, path: Path) -> int:
        with path.open("a+b") as file:
            _lock(file)
            _drop_unfinished_line(file)
            return await self.take_out(lambda lines: _write(file, lines))

    async def take_out(self, write: Callable[[Sequence[ArchivedActor]], None]) -> int:
        """Delete what `write` was given, once that returns: it is on disk then. Return how many actors."""
        count = 0
        async for lines in self._lines():
            write([line for line, _, _ in lines])
            # All are removed at once: what comes together, the store writes to its disk together.
            removed = (self._archive.remove(stored.key, len(line.events), sums) for line, stored, sums in lines)
            count += sum(await asyncio.gather(*removed))
        return count

    async def _lines(self) -> AsyncIterator[Sequence[tuple[ArchivedActor, StoredActor, Mapping[str, int]]]]:
        async for keys in self._store.actors():
            found = [await self._line(stored) for stored in await self._store.read(keys)]
            lines = [line for line in found if line is not None]
            for i in range(0, len(lines), _LINES_AT_ONCE):
                yield lines[i : i + _LINES_AT_ONCE]

    async def _line(self, stored: StoredActor) -> tuple[ArchivedActor, StoredActor, Mapping[str, int]] | None:
        behaviour, events = self._behaviours.get(stored.key.actor_id.partition("_")[0]), list(stored.events)
        if behaviour is None or not events:
            return None
        if len(events) < stored.length:
            events += await self._store.more(stored.key, len(events), stored.length)
        try:
            state = rehydrate(behaviour, stored.key.actor_id, Stored(None, 0, events))
            last_ms = behaviour.decode_event(events[-1]).at_ms
        except (UnknownEventError, BooksError, MoneyError) as error:
            raise ArchiveError(f"{_STOPPED}: {error}; actor {stored.key.actor_id}") from None
        if len(events) != stored.length or last_ms >= self._before_ms or not behaviour.done(state):
            return None
        audited = await fold(stored, self._store, self._behaviours)
        if audited.differences:
            raise ArchiveError(f"{_STOPPED}: {audited.differences[0]}")
        books = audited.books
        sums = {
            "received_msat": books.received,
            "spent_msat": books.spent,
            "refunded_msat": books.refunded,
            "owed_msat": books.owed,
        }
        line = ArchivedActor(stored.key.actor_id, stored.key.partition, tuple(msgspec.Raw(event) for event in events))
        return line, stored, sums


def _lock(file: BinaryIO) -> None:
    """Lock the file until it is closed: other runs would cut off or mix with lines whose journals are deleted."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = f"{file.name} is being written to by another run: wait until that one has ended, or name another file."
        raise ArchiveError(text) from None


def _drop_unfinished_line(file: BinaryIO) -> None:
    """Remove the unfinished line that a cut-off run may have left; its journal was not deleted."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            file.truncate(start + newline + 1)
            return
        end = start
    file.truncate(0)


def _write(file: BinaryIO, lines: Sequence[ArchivedActor]) -> None:
    """Write the lines, and return when they are on disk."""
    file.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
    file.flush()
    os.fsync(file.fileno())
    # A new file is on disk only with the directory that names it.
    directory = os.open(Path(file.name).parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_archive(path: Path) -> Iterator[StoredActor | str]:
    """Yield the actors of an archive as they were, and a sentence for each line that can't be read.

    A last line that was cut off is left out.
    """
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            try:
                line = msgspec.json.decode(data, type=ArchivedActor)
            except (msgspec.DecodeError, UnicodeDecodeError):
                if data.endswith(b"\n"):
                    yield f"{path}, line {number}: not a line of an archive"
                continue
            events = [bytes(event) for event in line.events]
            if events:
                yield StoredActor(ActorKey(line.partition, line.actor_id), None, 0, len(events), events)
            else:
                yield f"{path}, line {number}: an actor without a journal"

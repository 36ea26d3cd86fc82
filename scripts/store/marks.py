"""Marks outside the store of what it has confirmed, so that a store that comes back older or empty is noticed.

`docs/decisions/store.md` says what can be known by them, and what can not.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from ...actors.clock import system_now_ms
from ...actors.domain.timestamps import timestamp
from ...actors.ports import TransientError
from .binary import StoreError

_FILE: Final = "store_marks.json"
_EVERY_S: Final = 2.0
_NAME_BYTES: Final = 8
_REMEDY: Final = (
    "Bring back the newest copy of the store, or name the right one (REDIS_URL, --data-dir). If there is none, run "
    "`satmeter audit`, and then start once with --accept-loss. The store is then taken as it is. What it lost is "
    "forgotten, debits and refunds too; payments to sessions and jobs that it still has are found again at the node."
)
_log = structlog.get_logger(__name__)


class Marks(Protocol):
    """Marks of one server in the store, see `RedisMarks`."""

    async def entered(self) -> bool: ...  # noqa: D102

    async def read(self, partitions: Iterable[int]) -> Mapping[int, int]: ...  # noqa: D102

    async def raise_all(self) -> Mapping[int, int]: ...  # noqa: D102


class Marked(msgspec.Struct):
    """The file: this server's name in the store, its marks by partition, and when the last was confirmed."""

    server: str
    marks: dict[int, int] = {}
    at: str = ""


class StoreMarks:
    """Keeper of the file. `marks_of` returns the marks in the store of a server with this name."""

    def __init__(
        self,
        data_dir: Path,
        marks_of: Callable[[str], Marks],
        *,
        every_s: float = _EVERY_S,
        now_ms: Callable[[], int] = system_now_ms,
    ) -> None:
        self._path = data_dir / _FILE
        self._marks_of = marks_of
        self._every_s = every_s
        self._now_ms = now_ms
        self._known = Marked(secrets.token_hex(_NAME_BYTES))
        self._in_store: Marks = marks_of(self._known.server)
        self._failing = False

    async def enter(self, *, accept_loss: bool = False) -> str | None:
        """Check that the store has what it confirmed to this server. It writes nothing.

        Return what was lost and is accepted, or None. Raises `StoreError` for what is lost and not accepted, and
        `TransientError`.
        """
        lost = self._load() or await self._lost()
        if lost is not None and not accept_loss:
            raise StoreError(f"{lost} {_REMEDY}")
        if lost is not None:
            _log.warning("store_loss_accepted", hint=lost)
            self._known = Marked(secrets.token_hex(_NAME_BYTES))
        self._in_store = self._marks_of(self._known.server)
        return lost

    async def begin(self) -> None:
        """Make the first mark. Raises `TransientError`, and `OSError` when the file can't be written."""
        await self._mark()

    async def keep(self) -> None:
        """Make marks until cancelled. A store or disk that fails is tried again."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.mark()

    async def mark(self) -> None:
        """Make a mark. Never raises: without it, only a younger loss is not noticed."""
        try:
            await self._mark()
        except (TransientError, OSError) as error:
            if not self._failing:
                _log.warning("store_mark_not_made", error_type=type(error).__name__, error=str(error))
            self._failing = True
        else:
            self._failing = False

    def _load(self) -> str | None:
        """Read the file; return why that is not possible, or None."""
        try:
            self._known = msgspec.json.decode(self._path.read_bytes(), type=Marked)
        except FileNotFoundError:
            return None
        except ValueError:
            return f"{self._path} is damaged, and tells no longer what the store confirmed."
        return None

    async def _lost(self) -> str | None:
        known = self._known
        if not known.marks:
            return None
        in_store = self._marks_of(known.server)
        found = await in_store.read(list(known.marks))
        behind = max(known.marks[partition] - found[partition] for partition in known.marks)
        if behind <= 0:
            return None
        since = f"this server knows a mark of {known.at} that it confirmed"
        if not await in_store.entered():
            return f"The store is empty, and was not: {since}."
        if not any(found.values()):
            return f"This is another store, or an older one: it knows nothing of this server, and {since}."
        missing_s = behind * self._every_s
        return f"The store is older than what it confirmed: {since}, and lacks about {missing_s:,.0f} s before it."

    async def _mark(self) -> None:
        marks = await self._in_store.raise_all()
        known = self._known
        back = [partition for partition, mark in marks.items() if mark <= known.marks.get(partition, 0)]
        if back:
            hint = "it lost what it had confirmed, as after a fail-over or a restore: run `satmeter audit`"
            _log.error("store_went_back", partitions=back, marked_at=known.at, hint=hint)
        # A partition that is not marked any more keeps its last mark: it moved with its keys.
        self._known = Marked(known.server, {**known.marks, **marks}, timestamp(self._now_ms()))
        await asyncio.to_thread(_write, self._path, msgspec.json.encode(self._known))


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is whole at any moment, and on disk."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)

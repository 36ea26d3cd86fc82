"""Server of metrics totals: the main process adds up what the other processes of its node have counted."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Final

import msgspec
import structlog

from ...actors.cancellation import cancel_and_wait
from ...actors.frames import read_frame, write_frame
from ...actors.metrics.changes import Changes
from ...actors.metrics.link import FAMILIES, FRAME_MAX_BYTES, GIVE, GREETINGS, socket_in
from ...actors.metrics.process import process_registry
from ...actors.metrics.totals import Totals

# A process that is killed takes the counts of this time with it.
_GATHERS_EVERY_S: Final = 5.0
# A process that stands still must not keep the others' figures back.
_ANSWERS_WITHIN_S: Final = 0.5
_GREETING_MAX_BYTES: Final = 64
_MAIN: Final = "main"
_encode: Final = msgspec.msgpack.Encoder().encode
_log = structlog.get_logger(__name__)


class _Process:
    """Connection of a process, with its answers that are awaited, in the order of the questions."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._due: deque[asyncio.Future[None]] = deque()

    def ask(self) -> asyncio.Future[None]:
        """Ask for the changes; the result is there when they have been taken."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._due.append(answer)
        write_frame(self._writer, GIVE)
        return answer

    def answered(self) -> None:
        """Take note of the answer to the oldest question."""
        if self._due and not (answer := self._due.popleft()).done():
            answer.set_result(None)

    def ended(self) -> None:
        """Let nothing wait for it any more."""
        while self._due:
            self.answered()


class MetricsServer:
    """Socket in the server's private directory, which no other user can enter, and the totals behind it."""

    def __init__(self, *, gathers_every_s: float = _GATHERS_EVERY_S) -> None:
        self._gathers_every_s = gathers_every_s
        self._totals = Totals()
        self._processes: set[_Process] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._gathering: asyncio.Task[None] | None = None
        self._own = Changes(process_registry())
        self._totals.enter(self, _MAIN)

    async def open(self, directory: Path, node_id: str) -> None:
        """Listen for processes of this Ray node."""
        self._server = await asyncio.start_unix_server(self._admit, socket_in(directory, node_id))
        self._gathering = asyncio.create_task(self._gather_now_and_then())

    async def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
        await cancel_and_wait([self._gathering, *self._connections])

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            role = GREETINGS.decode(await read_frame(reader, _GREETING_MAX_BYTES)).role
            if role:
                await self._take_changes(reader, writer, role)
            else:
                await self._gather()
                write_frame(writer, _encode(self._totals.families()))
                await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            # The process has ended, or this one ends. Python 3.11 logs a cancelled task of a connection as a defect.
            pass
        except msgspec.MsgspecError as error:
            _log.error("metrics_unreadable", error_type=type(error).__name__)
        finally:
            writer.close()
            self._connections.discard(task)

    async def _take_changes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, role: str) -> None:
        process = _Process(writer)
        self._processes.add(process)
        self._totals.enter(process, role)
        try:
            # At once, as Prometheus sees the growth of a series only after its first value.
            process.ask()
            while True:
                self._totals.take(process, FAMILIES.decode(await read_frame(reader, FRAME_MAX_BYTES)))
                process.answered()
        finally:
            self._totals.leave(process)
            self._processes.discard(process)
            process.ended()

    async def _gather(self) -> None:
        """Have all processes hand over their changes, as far as they do so in time."""
        self._totals.take(self, self._own.take())
        self._own.handed_over()
        if answers := [process.ask() for process in self._processes]:
            await asyncio.wait(answers, timeout=_ANSWERS_WITHIN_S)

    async def _gather_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._gathers_every_s)
            await self._gather()

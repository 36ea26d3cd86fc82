"""The way from a router to a host: a connection that carries batches of calls there and batches of answers back.

Ray says where a host is and hands over the word that opens its door; what goes through it then costs no Ray call, each
of which takes about a millisecond of each side's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from .messages import ANSWERS, CALLS, Answer, Call, Cancel
from .router.router import LinkError

_LENGTH_BYTES: Final = 4
# Far more than a full batch of the largest requests.
_FRAME_MAX_BYTES: Final = 1024 * 1024 * 1024
_HELLO_MAX_BYTES: Final = 1_024
_HELLO_WITHIN_S: Final = 5.0
_CONNECTS_WITHIN_S: Final = 2.0
# A host says something at least so often, and one that is silent for longer is taken for dead.
_HEARTBEAT_S: Final = 1.0
_SILENCE_MAX_S: Final = 4.0
_log = structlog.get_logger(__name__)


class Door(msgspec.Struct, frozen=True):
    """Where a host takes calls, and the word that it wants to hear first. Only Ray's actors are told."""

    address: str
    port: int
    word: str


class Hello(msgspec.Struct, frozen=True):
    """What a router says first: the word, and the inbox that its answers go to."""

    word: str
    inbox_id: str


class Callee(Protocol):
    """What stands behind the door: a host of either placement."""

    async def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Takes calls, as soon as it is not behind."""
        ...

    async def collect(self, inbox_id: str, longest_s: float) -> list[Answer]:
        """The answers that are ready; waits for the first, for so long."""
        ...


class HostDoor:
    """Lets routers in to a host."""

    def __init__(self, host: Callee) -> None:
        self._host = host
        self._word = secrets.token_hex(32)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def open(self, address: str) -> Door:
        """Takes connections at this address, on a port of its own."""
        self._server = await asyncio.start_server(self._let_in, address, 0)
        return Door(address, self._server.sockets[0].getsockname()[1], self._word)

    def close(self) -> None:
        """Lets nobody in any more, and ends the connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.close()

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        directions: list[asyncio.Task[None]] = []
        self._open.add(writer)
        try:
            async with asyncio.timeout(_HELLO_WITHIN_S):
                hello = msgspec.msgpack.decode(await _read(reader, _HELLO_MAX_BYTES), type=Hello)
            if not secrets.compare_digest(hello.word.encode(), self._word.encode()):
                _log.warning("stranger_turned_away")
                return
            directions = [
                asyncio.create_task(self._take_calls(reader, hello.inbox_id)),
                asyncio.create_task(self._give_answers(writer, hello.inbox_id)),
            ]
            done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (OSError, EOFError, TimeoutError):
            return  # The router is gone, or never was one.
        except msgspec.MsgspecError as error:
            _log.error("message_unreadable", error=type(error).__name__)
        finally:
            for task in directions:
                task.cancel()
            writer.close()
            self._open.discard(writer)
            await asyncio.gather(*directions, return_exceptions=True)

    async def _take_calls(self, reader: asyncio.StreamReader, inbox_id: str) -> None:
        while True:
            await self._host.submit(inbox_id, CALLS.decode(await _read(reader, _FRAME_MAX_BYTES)))

    async def _give_answers(self, writer: asyncio.StreamWriter, inbox_id: str) -> None:
        while True:
            _write(writer, ANSWERS.encode(await self._host.collect(inbox_id, _HEARTBEAT_S)))
            await writer.drain()


class SocketLink:
    """Implements `HostLink`: one connection for each inbox, which is never mended, since what was in it may be lost."""

    def __init__(self, find: Callable[[], Awaitable[Door]]) -> None:
        self._find = find
        self._inbox_id = ""
        self._connecting: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]] | None = None

    async def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hands calls over. Raises `LinkError`."""
        _, writer = await self._connected(inbox_id)
        try:
            _write(writer, CALLS.encode(list(calls)))
            await writer.drain()
        except OSError as error:
            raise LinkError(f"the connection broke: {type(error).__name__}") from error

    async def collect(self, inbox_id: str) -> Sequence[Answer]:
        """Waits for answers. Raises `LinkError`."""
        reader, _ = await self._connected(inbox_id)
        try:
            while True:
                async with asyncio.timeout(_SILENCE_MAX_S):
                    answers = ANSWERS.decode(await _read(reader, _FRAME_MAX_BYTES))
                if answers:
                    return answers
        except (OSError, EOFError, TimeoutError) as error:
            raise LinkError(f"the connection broke: {type(error).__name__}") from error

    async def close(self) -> None:
        """Ends the connection."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkError):
                _, writer = await connecting
                writer.close()

    async def _connected(self, inbox_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connecting is None or self._inbox_id != inbox_id:
            former, self._inbox_id = self._connecting, inbox_id
            self._connecting = asyncio.create_task(self._connect(inbox_id, former))
        # Shielded: both directions wait for the same connection.
        return await asyncio.shield(self._connecting)

    async def _connect(
        self, inbox_id: str, former: asyncio.Task[tuple[asyncio.StreamReader, asyncio.StreamWriter]] | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if former is not None:
            former.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkError):
                (await former)[1].close()
        try:
            # Ray lets a question to a process that stands still wait for as long as it does.
            async with asyncio.timeout(_SILENCE_MAX_S):
                door = await self._find()
        except TimeoutError as error:
            raise LinkError("the host does not say where it is") from error
        try:
            async with asyncio.timeout(_CONNECTS_WITHIN_S):
                reader, writer = await asyncio.open_connection(door.address, door.port)
        except (OSError, TimeoutError) as error:
            raise LinkError(f"the host can't be connected to: {type(error).__name__}") from error
        _write(writer, msgspec.msgpack.encode(Hello(door.word, inbox_id)))
        return reader, writer


def _write(writer: asyncio.StreamWriter, payload: bytes) -> None:
    writer.write(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload)


async def _read(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    """The next frame. Raises `EOFError` at the end, or for one that is too long."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > most_bytes:
        raise EOFError("a frame of impossible length")
    return await reader.readexactly(length)

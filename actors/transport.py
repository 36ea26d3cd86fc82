"""Connection from a router to a host, which carries batches of calls there and batches of answers back.

Ray says where a host is and hands over the secret token that the host demands. Traffic on the connection then costs no
Ray call, each of which takes about a millisecond of each side's time. Fields keep the names that servers of earlier
versions send: during a rolling upgrade both take part.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from ..config.log_context import in_background
from .domain.errors import unavailable
from .frames import read_frame, write_frame
from .host_link import LinkError
from .messages import ANSWERS, CALLS, Answer, Call, Cancel

# Far more than a full batch of the largest requests.
_FRAME_MAX_BYTES: Final = 1024 * 1024 * 1024
_HANDSHAKE_MAX_BYTES: Final = 1_024
_HANDSHAKE_WITHIN_S: Final = 5.0
_CONNECTS_WITHIN_S: Final = 2.0
# A host sends something every heartbeat. One that is silent for the second span is taken for dead.
_HEARTBEAT_S: Final = 1.0
_SILENCE_MAX_S: Final = 4.0
_OLDER: Final = "a server of a later release asked: upgrade this one, too"
_log = structlog.get_logger(__name__)


class HostAddress(msgspec.Struct, frozen=True):
    """Address at which a host takes calls, and the secret token that it expects first, known to Ray's actors only."""

    address: str
    port: int
    token: str = msgspec.field(name="word")


class Handshake(msgspec.Struct, frozen=True):
    """First message of a router: the secret token, and the queue that its answers go to."""

    token: str = msgspec.field(name="word")
    queue_id: str = msgspec.field(name="inbox_id")


class _UnknownCommand(msgspec.Struct, frozen=True):
    type: str = ""


class _UnknownCall(msgspec.Struct, frozen=True, tag="call"):
    """Call of a command that only later versions know."""

    call_id: int
    command: _UnknownCommand


class Callee(Protocol):
    """Host that takes the calls, of either placement."""

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Take calls, as soon as the host is not behind with its work."""
        ...

    async def collect(self, queue_id: str, longest_s: float) -> list[Answer]:
        """Return the answers that are ready; wait for the first one for at most `longest_s`."""
        ...


class HostListener:
    """Server socket that lets routers in to a host."""

    def __init__(self, host: Callee) -> None:
        self._host = host
        self._token = secrets.token_hex(32)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._unknown: set[str] = set()

    async def open(self, address: str) -> HostAddress:
        """Take connections at this address, on a port of its own."""
        self._server = await asyncio.start_server(self._admit_router, address, 0)
        return HostAddress(address, self._server.sockets[0].getsockname()[1], self._token)

    def close(self) -> None:
        """Refuse new connections, and end the open ones."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.close()

    async def _admit_router(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        directions: list[asyncio.Task[None]] = []
        self._open.add(writer)
        try:
            async with asyncio.timeout(_HANDSHAKE_WITHIN_S):
                handshake = msgspec.msgpack.decode(await read_frame(reader, _HANDSHAKE_MAX_BYTES), type=Handshake)
            if not secrets.compare_digest(handshake.token.encode(), self._token.encode()):
                _log.warning("stranger_turned_away")
                return
            directions = [
                asyncio.create_task(self._take_calls(reader, writer, handshake.queue_id)),
                asyncio.create_task(self._give_answers(writer, handshake.queue_id)),
            ]
            done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (OSError, EOFError, TimeoutError):
            return  # The router is gone, or the caller was never a router.
        except msgspec.MsgspecError as error:
            _log.error("message_unreadable", error_type=type(error).__name__)
        finally:
            for task in directions:
                task.cancel()
            writer.close()
            self._open.discard(writer)
            await asyncio.gather(*directions, return_exceptions=True)

    async def _take_calls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, queue_id: str) -> None:
        while True:
            frame = await read_frame(reader, _FRAME_MAX_BYTES)
            try:
                calls = CALLS.decode(frame)
            except msgspec.ValidationError:
                # A later version knows more commands. To end the connection would fail the calls of all others in it.
                calls, unknown = CALLS.decode_known(frame)
                write_frame(writer, ANSWERS.encode([self._refused(call) for call in unknown]))
            await self._host.submit(queue_id, calls)

    def _refused(self, message: msgspec.Raw) -> Answer:
        """Return the answer to a call that this version does not know. Raises `MsgspecError` for another message."""
        call = msgspec.msgpack.decode(message, type=_UnknownCall)
        if call.command.type not in self._unknown:
            self._unknown.add(call.command.type)
            _log.warning("command_unknown", command=call.command.type, hint=_OLDER)
        return Answer(call.call_id, unavailable("The actor's host"))

    async def _give_answers(self, writer: asyncio.StreamWriter, queue_id: str) -> None:
        while True:
            write_frame(writer, ANSWERS.encode(await self._host.collect(queue_id, _HEARTBEAT_S)))
            await writer.drain()


class SocketLink:
    """Implementation of `HostLink`: one connection for each reply queue.

    A broken connection is never mended, since messages in it may be lost.
    """

    def __init__(self, find: Callable[[], Awaitable[HostAddress]]) -> None:
        self._find = find
        self._queue_id = ""
        self._connecting: asyncio.Task[_Connection] | None = None

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hand calls over. Raises `LinkError`."""
        writer = (await self._connected(queue_id)).writer
        if writer.transport.is_closing():
            # uvloop's own error for that is a `RuntimeError`, which the router would take for a defect.
            raise LinkError("the connection has ended")
        try:
            write_frame(writer, CALLS.encode(list(calls)))
            await writer.drain()
        except OSError as error:
            raise LinkError(f"the connection broke: {type(error).__name__}") from error

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        """Wait for answers. Raises `LinkError`."""
        connection = await self._connected(queue_id)
        try:
            while True:
                answers = ANSWERS.decode(await connection.read())
                if answers:
                    return answers
        except (OSError, EOFError) as error:
            raise LinkError(f"the connection broke: {type(error).__name__}") from error

    async def close(self) -> None:
        """End the connection."""
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkError):
                (await connecting).close()

    async def _connected(self, queue_id: str) -> _Connection:
        if self._connecting is None or self._queue_id != queue_id:
            former, self._queue_id = self._connecting, queue_id
            self._connecting = in_background(self._connect(queue_id, former))
        # Shielded: both directions wait for the same connection.
        return await asyncio.shield(self._connecting)

    async def _connect(self, queue_id: str, former: asyncio.Task[_Connection] | None) -> _Connection:
        if former is not None:
            former.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkError):
                (await former).close()
        try:
            # Ray lets a call to a process that stands still wait without an end.
            async with asyncio.timeout(_SILENCE_MAX_S):
                endpoint = await self._find()
        except TimeoutError as error:
            raise LinkError("the host does not say where it is") from error
        try:
            async with asyncio.timeout(_CONNECTS_WITHIN_S):
                reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        except (OSError, TimeoutError) as error:
            raise LinkError(f"the host can't be connected to: {type(error).__name__}") from error
        write_frame(writer, msgspec.msgpack.encode(Handshake(endpoint.token, queue_id)))
        return _Connection(reader, writer)


class _Connection:
    """Connection of a link, with a clock that breaks it off when the host is silent for too long.

    A time-out around each frame would cost as much as reading it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._clock = self._loop.call_later(_SILENCE_MAX_S, self._look)

    async def read(self) -> bytes:
        """Return the next frame. Raises `EOFError`, `OSError`, also when none has come for too long."""
        frame = await read_frame(self._reader, _FRAME_MAX_BYTES)
        self._heard_s = self._loop.time()
        return frame

    def close(self) -> None:
        """End the connection."""
        self._clock.cancel()
        self.writer.close()

    def _look(self) -> None:
        left_s = self._heard_s + _SILENCE_MAX_S - self._loop.time()
        if left_s > 0:
            self._clock = self._loop.call_later(left_s, self._look)
        else:
            self.writer.transport.abort()

"""Body of an answer whose pieces are given on as they come, without a task that wakes for each.

A stream's event is a packet of its own. To wake the task that reads it, and to set the library's timer again, cost more
than all else that is done with it here.
"""

from __future__ import annotations

import asyncio

import aiohttp

from .http import SentUnknownError, SilentServerError, Take


class FedBody(asyncio.Protocol):
    """Protocol of a connection while a body is fed. It passes all on to the library's, and has read what that made.

    `silence_s`: time without a byte after which the server has fallen silent. `look_s`: how often a body of which
    nothing more can come is looked for, as the library does not always tell.
    """

    def __init__(self, response: aiohttp.ClientResponse, take: Take, silence_s: float, look_s: float) -> None:
        connection = response.connection
        assert connection is not None and connection.protocol is not None and connection.transport is not None
        self._content = response.content
        self._library = connection.protocol
        self._transport = connection.transport
        self._take = take
        self._silence_s = silence_s
        self._look_s = look_s
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._end: asyncio.Future[bool] = self._loop.create_future()

    async def ended(self) -> bool:
        """Feed the body until its taker wants no more, or until its end, which returns False.

        Raises `SentUnknownError`, and what the taker raises.
        """
        # The library would set its timer again for each piece. Without a time-out, this takes the present one away.
        self._library.read_timeout = None
        self._library.start_timeout()
        self._transport.set_protocol(self)
        self._watch()
        # What came with the head, or until now.
        self._read()
        try:
            return await self._end
        finally:
            self._timer.cancel()
            self._give_back()

    def data_received(self, data: bytes) -> None:
        """Have bytes parsed, and give on what they bring."""
        self._heard_s = self._loop.time()
        self._library.data_received(data)
        self._read()

    def eof_received(self) -> bool | None:
        """Pass on that the server sends no more."""
        self._library.eof_received()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end of the connection on; a body that it broke off has failed."""
        self._library.connection_lost(exc)
        self._read()
        self._fail(aiohttp.ClientPayloadError())

    def pause_writing(self) -> None:
        """Pass on that the server reads too slowly."""
        self._library.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the server reads again."""
        self._library.resume_writing()

    def _read(self) -> None:
        content = self._content
        if self._end.done():
            return
        try:
            piece = content.read_nowait()
        except Exception as error:
            self._fail(error)
            return
        wants_no_more = False
        if piece:
            try:
                wants_no_more = self._take(piece)
            except Exception as error:
                self._end.set_exception(error)
                return
        if wants_no_more or content.is_eof():
            # At once: the library may have put the connection back into its pool, for another call.
            self._give_back()
            self._end.set_result(wants_no_more)

    def _fail(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_exception(body_failure(error))

    def _watch(self) -> None:
        """Look after the server's silence, and after a connection that the library has closed."""
        if self._end.done():
            return
        left_s = self._heard_s + self._silence_s - self._loop.time()
        if left_s <= 0:
            self._fail(aiohttp.SocketTimeoutError())
        elif self._transport.is_closing():
            self._fail(aiohttp.ClientPayloadError())
        else:
            self._timer = self._loop.call_later(min(left_s, self._look_s), self._watch)

    def _give_back(self) -> None:
        """Give the connection back to the library, with its clock of silence if more of this body is to come."""
        if self._transport.is_closing() or self._transport.get_protocol() is not self:
            return
        self._transport.set_protocol(self._library)
        if not self._content.is_eof():
            self._library.read_timeout = self._silence_s
            self._library.start_timeout()


def body_failure(error: Exception) -> SentUnknownError:
    """Return our error for one that came while a body was read. The request was sent, whatever its name."""
    if isinstance(error, TimeoutError):
        return SilentServerError(f"the server fell silent: {type(error).__name__}")
    return SentUnknownError(f"the body broke off: {type(error).__name__}")

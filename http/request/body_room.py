"""Room for request bodies in the memory of a front, bounded for each client address and in all.

A body stays in memory until its call is answered: the router may have to send it to another host.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, NamedTuple

from starlette.requests import HTTPConnection
from starlette.types import Scope

from ...actors.domain.errors import Code, Refusal, RefusedError
from ..edge.networks import Origin
from ..response.errors import rate_limited

# Smaller bodies are not counted. A front has memory for as many of them as it has connections.
COUNTED_BYTES: Final = 65_536
# One address may take this part of the room, as the others must find some, too.
_OF_ONE: Final = 4
_OF_WIDE: Final = 2
# A client waits this long for other calls to end. Its own time-out is longer.
_PATIENCE_S: Final = 10.0
_RETRY_AFTER_S: Final = 5
# A body that comes more slowly is ended once others have waited so long for its room. A client that sends a byte
# now and again would hold it for minutes.
_ENDS_SLOW_AFTER_S: Final = 1.0
_SLOW_BYTES_S: Final = 131_072
_WINDOW_S: Final = 2.0
_ROOM: Final = "satmeter.body_room"
_TAKEN: Final = "satmeter.body_taken"


class _Taken(NamedTuple):
    origin: Origin
    size_bytes: int


class Reading:
    """A body that is being read, with its time-out, and how fast it comes. `ended`: others needed its room."""

    def __init__(self, taken: _Taken, timeout: asyncio.Timeout, now_s: float) -> None:
        self.taken = taken
        self.ended = False
        self._timeout = timeout
        self._window_s = now_s
        self._window_bytes = 0
        self._bytes_s = float(_SLOW_BYTES_S)

    def add(self, size_bytes: int, now_s: float) -> None:
        """Count bytes that came."""
        self._window_bytes += size_bytes
        if now_s - self._window_s >= _WINDOW_S:
            self._bytes_s = self._window_bytes / (now_s - self._window_s)
            self._window_s, self._window_bytes = now_s, 0

    def rate(self, now_s: float) -> float:
        """Return the bytes a second of the last window; of a silent client those since then."""
        silent_s = now_s - self._window_s
        return self._window_bytes / silent_s if silent_s > 2 * _WINDOW_S else self._bytes_s

    def end(self, now_s: float) -> None:
        """Stop reading."""
        if not self._timeout.expired():
            self.ended = True
            self._timeout.reschedule(now_s)


class BodyRoom:
    """Count of the bytes that bodies take, with the requests that wait for room, first come first served.

    `origin_of` tells where a client comes from: one address or /64 may take a quarter of the room, and one /48 half of
    it. Without `rate_limits`, each may take the whole room.
    """

    def __init__(
        self,
        origin_of: Callable[[Scope], Origin],
        max_bytes: int,
        largest_bytes: int,
        *,
        rate_limits: bool = True,
        patience_s: float = _PATIENCE_S,
        ends_slow_after_s: float = _ENDS_SLOW_AFTER_S,
    ) -> None:
        self._ends_slow_after_s = ends_slow_after_s
        self._origin_of = origin_of
        self._max_bytes = max(max_bytes, largest_bytes)
        self._of_address_bytes = max(max_bytes // _OF_ONE, largest_bytes) if rate_limits else self._max_bytes
        self._patience_s = patience_s
        self._of_wide_bytes = min(_OF_WIDE * self._of_address_bytes, self._max_bytes)
        self._used_bytes = 0
        self._used: Counter[str] = Counter()
        self._waiting: list[tuple[_Taken, asyncio.Future[None]]] = []
        self._reading: set[Reading] = set()

    @property
    def used_bytes(self) -> int:
        """Bytes that are taken."""
        return self._used_bytes

    def enter(self, scope: Scope) -> None:
        """Let the reader of this request's body find the room."""
        scope[_ROOM] = self

    def leave(self, scope: Scope) -> None:
        """Give back what the request has taken, and let those in that wait for it."""
        taken: _Taken | None = scope.pop(_TAKEN, None)
        if taken is not None:
            self._give_back(taken)
            self._let_in()

    def keep(self, scope: Scope, size_bytes: int) -> None:
        """Give back what the request has taken beyond this size, as its body turned out to be smaller."""
        taken: _Taken | None = scope.get(_TAKEN)
        if taken is None or size_bytes >= taken.size_bytes:
            return
        if size_bytes <= COUNTED_BYTES:
            self.leave(scope)
            return
        self._give_back(taken._replace(size_bytes=taken.size_bytes - size_bytes))
        scope[_TAKEN] = taken._replace(size_bytes=size_bytes)
        self._let_in()

    @contextmanager
    def reading(self, scope: Scope, timeout: asyncio.Timeout) -> Iterator[Reading | None]:
        """Count how fast a body comes that has taken room. It may be ended by its time-out."""
        taken: _Taken | None = scope.get(_TAKEN)
        if taken is None:
            yield None
            return
        reading = Reading(taken, timeout, asyncio.get_running_loop().time())
        self._reading.add(reading)
        try:
            yield reading
        finally:
            self._reading.discard(reading)

    async def take(self, connection: HTTPConnection, size_bytes: int) -> None:
        """Take room for a body, once there is some. Raises `RefusedError` (429, 503) when there is none in time."""
        wanted = _Taken(self._origin_of(connection.scope), min(size_bytes, self._of_address_bytes))
        if self._waiting or not self._fits(wanted):
            await self._wait(wanted)
        else:
            self._count(wanted, wanted.size_bytes)
        connection.scope[_TAKEN] = wanted

    async def _wait(self, wanted: _Taken) -> None:
        entry = (wanted, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._let_in()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._ends_slow_after_s, self._end_slow, entry)
        try:
            async with asyncio.timeout(self._patience_s):
                await entry[1]
        except BaseException as error:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                # Let in, and given up at the same time.
                self._give_back(wanted)
            self._let_in()
            if isinstance(error, TimeoutError):
                raise self._full(wanted) from None
            raise
        finally:
            timer.cancel()

    def _end_slow(self, entry: tuple[_Taken, asyncio.Future[None]]) -> None:
        """End the slowest bodies in whose room one that has waited would fit, if there are enough of them."""
        wanted, future = entry
        if future.done():
            return
        now_s = asyncio.get_running_loop().time()
        slow = [reading for reading in self._reading if not reading.ended and reading.rate(now_s) < _SLOW_BYTES_S]
        slow.sort(key=lambda reading: reading.rate(now_s))
        of_address = self._beyond_own(wanted)
        in_all = self.used_bytes + wanted.size_bytes - self._max_bytes
        for reading in slow:
            own = (reading.taken.origin.wide or reading.taken.origin.near) == (wanted.origin.wide or wanted.origin.near)
            if own if of_address > 0 else in_all > 0:
                reading.end(now_s)
                in_all -= reading.taken.size_bytes
                of_address -= reading.taken.size_bytes if own else 0
        # Those that are not slow yet may be by then.
        asyncio.get_running_loop().call_later(self._ends_slow_after_s, self._end_slow, entry)

    def _let_in(self) -> None:
        for entry in list(self._waiting):
            wanted, future = entry
            # One that has just given up takes itself out.
            if future.done():
                continue
            # One that waits for its own address would not come in, however long others waited behind it.
            if not self._fits_address(wanted):
                continue
            if not self._fits_in_all(wanted):
                return
            self._waiting.remove(entry)
            self._count(wanted, wanted.size_bytes)
            future.set_result(None)

    def _give_back(self, taken: _Taken) -> None:
        self._count(taken, -taken.size_bytes)

    def _count(self, taken: _Taken, size_bytes: int) -> None:
        self._used_bytes += size_bytes
        # Clients that can't be told apart, as on a unix socket, count as one.
        for key in {taken.origin.near, taken.origin.wide or taken.origin.near}:
            self._used[key] += size_bytes
            if not self._used[key]:
                del self._used[key]

    def _beyond_own(self, wanted: _Taken) -> int:
        """Return the bytes by which a body exceeds what its address, or its /48, may have; none or fewer if it fits."""
        beyond = self._used[wanted.origin.near] + wanted.size_bytes - self._of_address_bytes
        if wanted.origin.wide:
            beyond = max(beyond, self._used[wanted.origin.wide] + wanted.size_bytes - self._of_wide_bytes)
        return beyond

    def _fits(self, wanted: _Taken) -> bool:
        return self._fits_in_all(wanted) and self._fits_address(wanted)

    def _fits_address(self, wanted: _Taken) -> bool:
        return self._beyond_own(wanted) <= 0

    def _fits_in_all(self, wanted: _Taken) -> bool:
        return self.used_bytes + wanted.size_bytes <= self._max_bytes

    def _full(self, wanted: _Taken) -> RefusedError:
        if self._fits_in_all(wanted):
            message = (
                f"The requests under way from your address have {self._used[wanted.origin.near]} bytes, of at most "
                f"{self._of_address_bytes}: wait for some of their answers."
            )
            return rate_limited(message, _RETRY_AFTER_S)
        message = (
            f"The server has no room for this body just now; nothing was charged. Try again in {_RETRY_AFTER_S} s."
        )
        return RefusedError(Refusal(Code.OVERLOADED, message, retry_after_s=_RETRY_AFTER_S))


def reading_of(connection: HTTPConnection, timeout: asyncio.Timeout) -> AbstractContextManager[Reading | None]:
    """Count how fast this request's body comes, if it counts at all."""
    room: BodyRoom | None = connection.scope.get(_ROOM)
    return nullcontext() if room is None else room.reading(connection.scope, timeout)


async def take_room(connection: HTTPConnection, size_bytes: int) -> None:
    """Take room for a body of this size, if it counts. Raises `RefusedError` (429, 503)."""
    room: BodyRoom | None = connection.scope.get(_ROOM)
    if room is not None and size_bytes > COUNTED_BYTES:
        await room.take(connection, size_bytes)


def keep_room(connection: HTTPConnection, size_bytes: int) -> None:
    """Give back the room that a body of this size does not need: one of undeclared length takes the most at first."""
    room: BodyRoom | None = connection.scope.get(_ROOM)
    if room is not None:
        room.keep(connection.scope, size_bytes)

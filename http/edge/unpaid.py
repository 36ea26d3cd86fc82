"""Connections that have not paid, in the order in which they give way to those of clients that have."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

from .networks import Origin
from .shares import ALL

ConnectionT = TypeVar("ConnectionT")


class Unpaid(Generic[ConnectionT]):
    """Lines of connections by address or /64, by /48, and of all.

    Those without a request under way give way first, and of each kind the one that has been so for longest. A request
    of somebody who watches a job costs us little, and ending it more.
    """

    def __init__(self) -> None:
        self._resting: Final[_Lines[ConnectionT]] = _Lines()
        self._busy: Final[_Lines[ConnectionT]] = _Lines()

    def rest(self, connection: ConnectionT, origin: Origin) -> None:
        """Put in a connection that has no request under way (any more)."""
        self._busy.take_out(connection, origin)
        self._resting.put(connection, origin)

    def work(self, connection: ConnectionT, origin: Origin) -> None:
        """Put in a connection that has a request under way."""
        self._resting.take_out(connection, origin)
        self._busy.put(connection, origin)

    def take_out(self, connection: ConnectionT, origin: Origin) -> None:
        """Take out a connection that has paid, or ended."""
        self._resting.take_out(connection, origin)
        self._busy.take_out(connection, origin)

    def first(self, key: str) -> ConnectionT | None:
        """Return the one that gives way first among those with this key of their origin, or `ALL`; None without any."""
        first = self._resting.first(key)
        return self._busy.first(key) if first is None else first


class _Lines(Generic[ConnectionT]):
    """Connections of one kind. Each is found, put and taken out in the same time, however many there are."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[ConnectionT, None]] = {}

    def put(self, connection: ConnectionT, origin: Origin) -> None:
        """Put a connection at the end, if it is not there."""
        for key in _keys(origin):
            line = self._lines.get(key)
            if line is None:
                line = self._lines[key] = OrderedDict()
            line[connection] = None

    def take_out(self, connection: ConnectionT, origin: Origin) -> None:
        for key in _keys(origin):
            line = self._lines.get(key)
            if line is None or connection not in line:
                return
            del line[connection]
            if not line:
                del self._lines[key]

    def first(self, key: str) -> ConnectionT | None:
        line = self._lines.get(key)
        return None if line is None else next(iter(line))


def _keys(origin: Origin) -> tuple[str, ...]:
    near, wide = origin
    if wide:
        return ALL, near, wide
    return (ALL, near) if near else (ALL,)

"""Connections of one front: how many there may be of whom, and when each must have come further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple, Protocol

from starlette.types import Scope

from .buckets import Buckets
from .fair import FairRate
from .limits import Rates
from .networks import UNKNOWN, Origin, origin_of
from .sampling import Sample
from .shares import Caps, Full, Shares
from .unpaid import Unpaid

# More connections a second that are turned away get no answer, which costs more than closing them.
_TOLD_S: Final = 50.0
# Addresses of clients that have paid. The one that paid longest ago goes first.
_WELCOME_MAX: Final = 16_384
CONNECTION: Final = "satmeter.connection"
"""The key of a scope for the connection that a request came by."""


class Patience(NamedTuple):
    """Longest times of a connection, in seconds.

    head_s: for a whole head. idle_s: between requests. rest_s: for what is left of a request that was answered.
    linger_s: for that where the answer was the connection's last, and what is left is thrown away.
    stall_s: for a client to take `stall_bytes` of its answer. look_s: between looks at all connections; a timer for
    each request would cost more.
    """

    head_s: float = 10.0
    idle_s: float = 75.0
    rest_s: float = 5.0
    linger_s: float = 30.0
    stall_s: float = 30.0
    stall_bytes: int = 8_192
    look_s: float = 1.0


class Watched(Protocol):
    """A connection, which is looked at once `due_s` has come. `has_paid`: a client that pays has used it."""

    due_s: float
    origin: Origin
    has_paid: bool

    def look(self, now_s: float) -> None:
        """End the connection, or set another `due_s`."""
        ...

    def give_way(self) -> None:
        """End the connection at once."""
        ...


class Connections:
    """The connections of one front. Those of trusted proxies are many clients', and count only in all."""

    def __init__(
        self,
        caps: Caps,
        trusted_proxies: Iterable[str] = (),
        patience: Patience | None = None,
        arrivals: Rates | None = None,
        rests: Rates | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.sample = Sample()
        self._shares = Shares(caps)
        self._arrivals = None if arrivals is None else FairRate(arrivals)
        self._rests = None if rests is None else FairRate(rests)
        self._welcome: dict[str, None] = {}
        self._told = Buckets(_TOLD_S, _TOLD_S)
        self._trusted = [ip_network(proxy, strict=False) for proxy in trusted_proxies]
        self._watched: set[Watched] = set()
        self._unpaid: Unpaid[Watched] = Unpaid()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def total(self) -> int:
        """Number of connections."""
        return self._shares.total

    def arrive(self, connection: Watched, host: str | None) -> Full | None:
        """Take a connection in and set its origin; return what is full instead, if there is no room for it."""
        origin = UNKNOWN if host is None or self._is_trusted(host) else origin_of(host)
        connection.origin = origin
        full = self._too_often(origin)
        if full is None:
            if origin.near in self._welcome:
                self._make_room(origin)
            full = self._shares.take(origin)
        if full is None:
            self._watched.add(connection)
            self._unpaid.rest(connection, origin)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self.patience.look_s, self._look)
        return full

    def _make_room(self, origin: Origin) -> None:
        """End a connection that has not paid, if there is no room: strangers of its own address may hold all of it."""
        key = self._shares.full(origin)
        # One that leaves the narrowest share leaves the wider ones, too.
        other = None if key is None else self._unpaid.first(key)
        if other is not None:
            self.leave(other)
            other.give_way()

    def work(self, connection: Watched) -> None:
        """Take note that a connection has a request under way."""
        if not connection.has_paid and connection in self._watched:
            self._unpaid.work(connection, connection.origin)

    def rest(self, connection: Watched) -> None:
        """Take note that a connection has no request under way any more."""
        if not connection.has_paid and connection in self._watched:
            self._unpaid.rest(connection, connection.origin)

    def _too_often(self, origin: Origin) -> Full | None:
        """Count a new connection: to turn one away at once costs less than to refuse what it would ask."""
        if self._arrivals is None or not origin.near or origin.near in self._welcome:
            return None
        now_s = asyncio.get_running_loop().time()
        wait = self._arrivals.wait_s(origin, now_s)
        if wait is not None:
            return wait[1]
        self._arrivals.charge(origin, now_s)
        return None

    def welcome(self, connection: Watched) -> None:
        """Keep a connection whose client has paid, and let others of its address take the place of those that have not.

        They also come in as often as they like.
        """
        if not connection.has_paid:
            connection.has_paid = True
            self._unpaid.take_out(connection, connection.origin)
        near = connection.origin.near
        self._welcome.pop(near, None)
        self._welcome[near] = None
        if len(self._welcome) > _WELCOME_MAX:
            del self._welcome[next(iter(self._welcome))]

    def takes_rest(self, origin: Origin, size_bytes: int) -> bool:
        """Count bytes that were read only to be thrown away; return whether more of them may be read."""
        if self._rests is None:
            return True
        now_s = asyncio.get_running_loop().time()
        self._rests.charge(origin, now_s, size_bytes)
        return self._rests.wait_s(origin, now_s) is None

    def leave(self, connection: Watched) -> None:
        """Forget a connection that has ended."""
        if connection in self._watched:
            self._watched.discard(connection)
            self._unpaid.take_out(connection, connection.origin)
            self._shares.give_back(connection.origin)

    def tells(self, now_s: float) -> bool:
        """Return whether a connection that is turned away is told why."""
        told = not self._told.wait_s("", now_s)
        if told:
            self._told.charge("", now_s, 1.0)
        return told

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        rates = [rate for rate in (self._arrivals, self._rests) if rate is not None]
        for rate in rates:
            rate.tidy(now_s)
        for connection in [one for one in self._watched if one.due_s <= now_s]:
            connection.look(now_s)
        goes_on = bool(self._watched) or any(rate.kept for rate in rates)
        self._timer = loop.call_later(self.patience.look_s, self._look) if goes_on else None

    def _is_trusted(self, host: str) -> bool:
        if not self._trusted:
            return False
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def welcome(scope: Scope) -> None:
    """Take note that the client of a request has paid."""
    connection = scope.get(CONNECTION)
    if connection is not None:
        connection.welcome()

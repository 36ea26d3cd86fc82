"""Connections of one front: how many there may be of whom, and when each must have come further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple, Protocol

from .buckets import Buckets
from .fair import FairRate
from .limits import Rates
from .networks import UNKNOWN, Origin, origin_of
from .sampling import Sample
from .shares import Caps, Full, Shares

# More connections a second that are turned away get no answer, which costs more than closing them.
_TOLD_S: Final = 50.0
# Addresses of clients that have paid. The one that paid longest ago goes first.
_WELCOME_MAX: Final = 16_384
CONNECTION: Final = "satmeter.connection"
"""The key of a scope for the connection that a request came by."""


class Patience(NamedTuple):
    """Longest times of a connection, in seconds.

    head_s: for a whole head. idle_s: between requests. rest_s: for what is left of a request that was answered.
    stall_s: for a client to take `stall_bytes` of its answer. look_s: between looks at all connections; a timer for
    each request would cost more.
    """

    head_s: float = 10.0
    idle_s: float = 75.0
    rest_s: float = 5.0
    stall_s: float = 30.0
    stall_bytes: int = 8_192
    look_s: float = 1.0


class Watched(Protocol):
    """A connection, which is looked at once `due_s` has come."""

    due_s: float

    def look(self, now_s: float) -> None:
        """End the connection, or set another `due_s`."""
        ...


class Connections:
    """The connections of one front. Those of trusted proxies are many clients', and count only in all."""

    def __init__(
        self,
        caps: Caps,
        trusted_proxies: Iterable[str] = (),
        patience: Patience | None = None,
        arrivals: Rates | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.sample = Sample()
        self._shares = Shares(caps)
        self._arrivals = None if arrivals is None else FairRate(arrivals)
        self._welcome: dict[str, None] = {}
        self._told = Buckets(_TOLD_S, _TOLD_S)
        self._trusted = [ip_network(proxy, strict=False) for proxy in trusted_proxies]
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def total(self) -> int:
        """Number of connections."""
        return self._shares.total

    def arrive(self, connection: Watched, host: str | None) -> tuple[Origin, Full | None]:
        """Take a connection in; return what is full instead, if there is no room for it."""
        origin = UNKNOWN if host is None or self._is_trusted(host) else origin_of(host)
        full = self._too_often(origin) or self._shares.take(origin)
        if full is None:
            self._watched.add(connection)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self.patience.look_s, self._look)
        return origin, full

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

    def welcome(self, origin: Origin) -> None:
        """Let a client that has paid connect as often as it likes, while there is room."""
        self._welcome.pop(origin.near, None)
        self._welcome[origin.near] = None
        if len(self._welcome) > _WELCOME_MAX:
            del self._welcome[next(iter(self._welcome))]

    def leave(self, connection: Watched, origin: Origin) -> None:
        """Forget a connection that has ended."""
        if connection in self._watched:
            self._watched.discard(connection)
            self._shares.give_back(origin)

    def tells(self, now_s: float) -> bool:
        """Return whether a connection that is turned away is told why."""
        told = not self._told.wait_s("", now_s)
        if told:
            self._told.charge("", now_s, 1.0)
        return told

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for connection in [one for one in self._watched if one.due_s <= now_s]:
            connection.look(now_s)
        self._timer = loop.call_later(self.patience.look_s, self._look) if self._watched else None

    def _is_trusted(self, host: str) -> bool:
        if not self._trusted:
            return False
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

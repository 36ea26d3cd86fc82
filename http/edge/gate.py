"""Gate before a request's work: how often strangers may ask, so that those who pay are served."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from starlette.types import Scope

from ...actors.domain.errors import Code, Refusal, RefusedError
from ..request_facts import declared_length, has_paid
from .connections import CONNECTION, welcome
from .fair import FairRate
from .limits import Limits
from .networks import Origin
from .shares import Full, Shares

# Credentials that have paid. They are few, and the one that was idle longest goes first.
_PAYERS_MAX: Final = 16_384
_KEY_BYTES_MAX: Final = 2_048
_WRONG_CREDENTIAL: Final = 401
# What is made for a POST costs more than what is read for a GET, and more so with a long body.
_POST: Final = 5.0
# What an event stream costs beside its request.
_STREAM: Final = 4.0
_TOKEN_BYTES: Final = 16_384
# To split a query of 64 KiB takes as long as many requests.
_QUERY_TOKEN_BYTES: Final = 2_048
_BODY_TOKENS_MAX: Final = 20.0
_ANSWER_TOKENS_MAX: Final = 40.0
# A connection whose client asks too often is not read for a while: refusing costs something, too.
_HELD_S: Final = 1.0
_GATE: Final = "satmeter.gate"
_WATCHING: Final = "satmeter.watching"
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})


class Gate:
    """Rates by address or /64, by /48, and for all strangers; those who have paid pass by them.

    Nothing of a request but its head is read before. `origin_of` tells where a request comes from.
    """

    def __init__(
        self, limits: Limits, origin_of: Callable[[Scope], Origin], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._origin_of = origin_of
        self._now_s = now_s
        self._requests = None if limits.requests is None else FairRate(limits.requests)
        self._wrong = None if limits.wrong is None else FairRate(limits.wrong)
        self._under_way = Shares(limits.connections)
        self._streams = Shares(limits.streams)
        self._payers: dict[bytes, None] = {}

    def enter(self, scope: Scope) -> Visit:
        """Let a request in. Raises `RefusedError` (429, 503)."""
        scope[_GATE] = self
        key = _credential(scope)
        self._tidy()
        if key is not None and key in self._payers:
            # From here on, nothing that strangers do ends its connection.
            welcome(scope)
            return Visit(key, None, known=True)
        if self._requests is None or self._wrong is None:
            return Visit(key, None, known=False)
        origin, now_s = self._origin_of(scope), self._now_s()
        # A new client that has paid must get in while strangers without a credential use up what all have.
        wait = self._requests.wait_s(origin, now_s, in_all=key is None)
        if wait is None and key is not None:
            wait = self._wrong.wait_s(origin, now_s)
        if wait is not None:
            raise _refused(scope, *wait)
        full = self._under_way.take(origin)
        if full is not None:
            raise RefusedError(_TOO_MANY if full is Full.OWN else _overloaded(1.0))
        self._requests.charge(origin, now_s, _cost(scope), in_all=key is None)
        return Visit(key, origin, known=False)

    def _tidy(self) -> None:
        # Also while only payers ask, who charge no bucket.
        if self._requests is not None and self._wrong is not None:
            now_s = self._now_s()
            self._requests.tidy(now_s)
            self._wrong.tidy(now_s)

    def leave(self, scope: Scope, visit: Visit, status: int, sent_bytes: int = 0) -> None:
        """Count what the request turned out to be, and how long its answer was."""
        if visit.origin is not None:
            self._under_way.give_back(visit.origin)
        watching: Origin | None = scope.pop(_WATCHING, None)
        if watching is not None:
            self._streams.give_back(watching)
        if has_paid(scope):
            if visit.key is not None and not visit.known:
                self._learn(visit.key)
            return
        if visit.origin is not None and self._requests is not None and sent_bytes > _TOKEN_BYTES:
            # To send a long answer takes longer than to find it, and one that is not read stays in the system's memory.
            tokens = min(sent_bytes / _TOKEN_BYTES, _ANSWER_TOKENS_MAX)
            self._requests.charge(visit.origin, self._now_s(), tokens, in_all=visit.key is None)
        if 400 <= status < 500 and visit.key is not None:
            self._blame(scope, visit, status)

    def _blame(self, scope: Scope, visit: Visit, status: int) -> None:
        """Count a refused request with a credential; one that has paid passes only while its requests are good."""
        if self._requests is None or self._wrong is None:
            return
        origin, now_s = visit.origin or self._origin_of(scope), self._now_s()
        if status == _WRONG_CREDENTIAL:
            self._wrong.charge(origin, now_s)
        if visit.known:
            self._requests.charge(origin, now_s, in_all=False)
            if self._requests.wait_s(origin, now_s, in_all=False):
                self._payers.pop(visit.key or b"", None)

    def _learn(self, key: bytes) -> None:
        self._payers.pop(key, None)
        self._payers[key] = None
        if len(self._payers) > _PAYERS_MAX:
            del self._payers[next(iter(self._payers))]

    def watch(self, scope: Scope) -> None:
        """Count the request as an event stream, until it is left. Raises `RefusedError` (429, 503)."""
        origin = self._origin_of(scope)
        full = self._streams.take(origin)
        if full is not None:
            raise RefusedError(_TOO_MANY_STREAMS if full is Full.OWN else _NO_STREAM_LEFT)
        scope[_WATCHING] = origin
        if self._requests is not None:
            self._requests.charge(origin, self._now_s(), _STREAM)


class Visit:
    """A request that was let in: its credential as it was sent, where it counts, and whether it is known to pay."""

    __slots__ = ("key", "known", "origin")

    def __init__(self, key: bytes | None, origin: Origin | None, *, known: bool) -> None:
        self.key = key
        self.origin = origin
        self.known = known


def watch(scope: Scope) -> None:
    """Count a request as an event stream that costs its client nothing. Raises `RefusedError` (429, 503)."""
    gate: Gate | None = scope.get(_GATE)
    if gate is not None:
        gate.watch(scope)


_RETRY_AFTER_S: Final = 5
_STREAM_RETRY_S: Final = 30
_TOO_MANY_STREAMS: Final = Refusal(
    Code.RATE_LIMITED,
    "There are too many event streams open from your address: close some, or read the job with GET.",
    retry_after_s=_STREAM_RETRY_S,
)
_NO_STREAM_LEFT: Final = Refusal(
    Code.OVERLOADED,
    "The server has no event stream left; read the job with GET.",
    retry_after_s=_STREAM_RETRY_S,
)
_TOO_MANY: Final = Refusal(
    Code.RATE_LIMITED,
    "There are too many requests under way from your address: wait for some of their answers.",
    retry_after_s=_RETRY_AFTER_S,
)


def _too_often(wait_s: float) -> Refusal:
    after_s = math.ceil(wait_s)
    message = f"Your address asks too often: try again in {after_s} s. Nothing was charged."
    return Refusal(Code.RATE_LIMITED, message, retry_after_s=after_s)


def _overloaded(wait_s: float) -> Refusal:
    after_s = math.ceil(wait_s)
    message = f"The server has too many requests of this kind; nothing was charged. Try again in {after_s} s."
    return Refusal(Code.OVERLOADED, message, retry_after_s=after_s)


def _refused(scope: Scope, wait_s: float, full: Full) -> RefusedError:
    connection: Any = scope.get(CONNECTION)
    if connection is not None:
        # Its next requests wait in the system's buffer, which costs nothing.
        connection.hold(_HELD_S)
    return RefusedError(_too_often(wait_s) if full is Full.OWN else _overloaded(wait_s))


def _credential(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name in _CREDENTIALS and value:
            # One that is longer can't be known, but is one.
            key: bytes = value if len(value) <= _KEY_BYTES_MAX else b""
            return key
    return None


def _cost(scope: Scope) -> float:
    """Return the tokens of a request, by what its head says of it."""
    query = len(scope.get("query_string", b"")) / _QUERY_TOKEN_BYTES
    if scope["method"] != "POST":
        return 1.0 + query
    return _POST + query + min(declared_length(scope) / _TOKEN_BYTES, _BODY_TOKENS_MAX)

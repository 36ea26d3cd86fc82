"""Rates by address or /64, by /48 and in all, at which those that ask little are the last to feel the others."""

from __future__ import annotations

from typing import Final

from .buckets import Buckets
from .limits import Rates
from .networks import Origin
from .shares import Full

_ALL: Final = ""
_TIDY_EVERY_S: Final = 10.0
# A client that has this part of its own tokens left may take what is in reserve for such clients.
_QUIET: Final = 0.9


class FairRate:
    """Token buckets of one kind. Clients that can't be told apart are counted only in all."""

    def __init__(self, rates: Rates) -> None:
        self._near = Buckets(*rates.near)
        self._wide = Buckets(*rates.wide)
        self._all = Buckets(*rates.all)
        self._quiet_tokens = _QUIET * rates.near.burst
        self._reserve_tokens = rates.all.burst
        self._tidy_s = 0.0

    @property
    def kept(self) -> int:
        """Number of clients' buckets, of which a full one is the same as none."""
        return len(self._near) + len(self._wide)

    def tidy(self, now_s: float) -> None:
        """Drop the buckets of clients that have been quiet, now and again. It is called often."""
        if now_s >= self._tidy_s:
            self._tidy_s = now_s + _TIDY_EVERY_S
            self._near.tidy(now_s)
            self._wide.tidy(now_s)

    def wait_s(self, origin: Origin, now_s: float, *, in_all: bool = True) -> tuple[float, Full] | None:
        """Return how long the client has to wait, and for whose tokens; None if it need not."""
        wait_s = self._near.wait_s(origin.near, now_s) if origin.near else 0.0
        if origin.wide:
            wait_s = max(wait_s, self._wide.wait_s(origin.wide, now_s))
        if wait_s:
            return wait_s, Full.OWN
        if not in_all or not (wait_s := self._all.wait_s(_ALL, now_s)):
            return None
        quiet = origin.near and self._near.left(origin.near, now_s) >= self._quiet_tokens
        if quiet and self._all.left(_ALL, now_s) > 1.0 - self._reserve_tokens:
            return None
        return wait_s, Full.ALL

    def charge(self, origin: Origin, now_s: float, tokens: float = 1.0, *, in_all: bool = True) -> None:
        """Take tokens out."""
        if origin.near:
            self._near.charge(origin.near, now_s, tokens)
        if origin.wide:
            self._wide.charge(origin.wide, now_s, tokens)
        if in_all:
            self._all.charge(_ALL, now_s, tokens)

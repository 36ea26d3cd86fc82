"""Watch helpers: a pace, a memory with an end, and short logs of outages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog

from ..ports import PortError

_log = structlog.get_logger(__name__)


class Pacer:
    """Pacer that lets callers through one after the other, `every_s` apart."""

    def __init__(self, every_s: float, clock: Callable[[], float], pause: Callable[[float], Awaitable[None]]) -> None:
        self._every_s = every_s
        self._clock = clock
        self._pause = pause
        self._next_at_s = 0.0

    async def turn(self) -> None:
        """Wait for the caller's turn."""
        now_s = self._clock()
        turn_at_s = max(now_s, self._next_at_s)
        self._next_at_s = turn_at_s + self._every_s
        if turn_at_s > now_s:
            await self._pause(turn_at_s - now_s)


class Recent:
    """Memory of the last `size_max` payment hashes that were put in."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._hashes: OrderedDict[str, None] = OrderedDict()

    def add(self, payment_hash: str) -> None:
        """Put a payment hash in, and the oldest one out."""
        self._hashes[payment_hash] = None
        if len(self._hashes) > self._size_max:
            self._hashes.popitem(last=False)

    def __contains__(self, payment_hash: str) -> bool:
        return payment_hash in self._hashes


class Outage:
    """Log of a failure when it begins and when it is over, not at each attempt."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._down = False

    def failed(self, error: Exception | None) -> None:
        """Log a failed attempt if it is the first; `error` None when a connection just ended."""
        if not self._down:
            reason = str(error) if isinstance(error, PortError) else None
            # Any error but the port's own is a defect of ours, whose place must be logged.
            defect = error if error is not None and not isinstance(error, PortError) else None
            _log.warning(f"{self._what}_lost", reason=reason, exc_info=defect)
        self._down = True

    def recovered(self) -> None:
        """Log the end of an outage after a successful attempt."""
        if self._down:
            _log.info(f"{self._what}_back")
        self._down = False

"""Parts of a connection that take less memory than those of the standard library: thousands of them only wait."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


class SlimEvent:
    """Event as `asyncio.Event`, without the queue of 0.7 kB that each of those has for the case that tasks wait."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Wake all that wait."""
        self._is_set = True
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def clear(self) -> None:
        """Let those that come now wait."""
        self._is_set = False

    async def wait(self) -> bool:
        """Return True once it is set."""
        if not self._is_set:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting += (waiting,)
            try:
                await waiting
            finally:
                self._waiting = tuple(other for other in self._waiting if other is not waiting)
        return True


class SlimQueue(list[T]):
    """Queue as `collections.deque`, as far as a protocol of uvicorn uses it, likewise."""

    __slots__ = ()

    def appendleft(self, item: T) -> None:
        """Put an item behind all others, of which `pop` takes the first."""
        self.insert(0, item)

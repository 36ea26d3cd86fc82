"""An actor's replies to a request, waited for as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final, Generic, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

T = TypeVar("T")

# Most answers come sooner, and looking whether the client is there costs as much as all else that is done here.
_LOOKS_AFTER_S: Final = 0.25


class Replies(Generic[T]):
    """The replies, one after the other. They must be closed, which ends the call where nobody else waits for it."""

    def __init__(self, request: Request, replies: AsyncGenerator[T, None]) -> None:
        self._receive = request.receive
        self._replies = replies
        self._next: asyncio.Future[T] | None = None

    async def next(self) -> T:
        """The next one. Raises what the actor raises, and `ClientDisconnect` when the client has gone."""
        reply = await self.within(None)
        assert reply is not None
        return reply

    async def within(self, longest_s: float | None) -> T | None:
        """The same; None when it has not come in so many seconds, in which case it can still be waited for."""
        if self._next is None:
            self._next = asyncio.ensure_future(_next_of(self._replies))
        try:
            looks_after_s = _LOOKS_AFTER_S if longest_s is None else min(_LOOKS_AFTER_S, longest_s)
            await asyncio.wait({self._next}, timeout=looks_after_s)
            if not self._next.done() and longest_s != looks_after_s:
                await self._unless_gone(None if longest_s is None else longest_s - looks_after_s)
            if not self._next.done():
                return None
            reply, self._next = self._next.result(), None
        except BaseException:
            await self.aclose()
            raise
        return reply

    async def rest(self) -> AsyncGenerator[T, None]:
        """Those that are still to come. Raises what the actor raises."""
        try:
            if self._next is not None:
                yield await self._next
                self._next = None
            async for reply in self._replies:
                yield reply
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Ends the call. Raises nothing."""
        if self._next is not None:
            await cancel(self._next)
            self._next = None
        await self._replies.aclose()

    async def _unless_gone(self, longest_s: float | None) -> None:
        """Waits for the next one. Raises `ClientDisconnect` when the client goes first."""
        assert self._next is not None
        left = asyncio.create_task(gone(self._receive))
        either: set[asyncio.Future[Any]] = {self._next, left}
        try:
            await asyncio.wait(either, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                raise ClientDisconnect
        finally:
            await cancel(left)


async def _next_of(replies: AsyncGenerator[T, None]) -> T:
    return await anext(replies)


async def gone(receive: Receive) -> None:
    """Returns when the client has gone away; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Ends these, and returns when they have ended; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

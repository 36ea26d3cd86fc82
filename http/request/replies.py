"""An actor's replies to a request, waited for as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from ...actors.domain.llm.answers import Held
from ...actors.messages import WireReply

# Most answers come sooner, and looking whether the client is there costs as much as all else that is done here.
_LOOKS_AFTER_S: Final = 0.25
# In which the SDKs of both providers say it, in seconds.
_READ_TIMEOUTS: Final = ("x-stainless-read-timeout", "x-stainless-timeout")


class Replies:
    """The replies, one after the other. They must be closed, which ends the call where nobody else waits for it.

    `held`: what was said of the hold, once it is placed; it is none of the replies.
    """

    def __init__(self, request: Request, replies: AsyncGenerator[WireReply, None]) -> None:
        self._receive = request.receive
        self._replies = replies
        self._next: asyncio.Future[WireReply] | None = None
        self._looks = False
        self.held: Held | None = None

    async def next(self) -> WireReply:
        """The next one. Raises what the actor raises, and `ClientDisconnect` when the client has gone."""
        while (reply := await self.within(None)) is None:
            pass
        return reply

    async def soon(self, within_s: float) -> WireReply | None:
        """The next one; None when it is not here in so many seconds and the hold is placed. Raises as `next` does."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while True:
            reply = await self.within(None if self.held is None else max(0.0, deadline_s - loop.time()))
            if reply is not None or (self.held is not None and loop.time() >= deadline_s):
                return reply

    async def within(self, longest_s: float | None) -> WireReply | None:
        """The next one; None when it has not come in so many seconds, or what came was the word of the hold.

        It can still be waited for then. Raises as `next` does.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(_next_of(self._replies))
        try:
            if not self._looks:
                waited_s = _LOOKS_AFTER_S if longest_s is None else min(_LOOKS_AFTER_S, longest_s)
                await asyncio.wait({self._next}, timeout=waited_s)
                longest_s = None if longest_s is None else longest_s - waited_s
            if not self._next.done():
                self._looks = True
                await self._unless_gone(longest_s)
            if not self._next.done():
                return None
            reply, self._next = self._next.result(), None
        except BaseException:
            await self.aclose()
            raise
        if isinstance(reply, Held):
            self.held = reply
            return None
        return reply

    async def rest(self) -> AsyncGenerator[WireReply, None]:
        """Those that are still to come. Raises what the actor raises."""
        try:
            if self._next is not None:
                first = await self._next
                self._next = None
                if not isinstance(first, Held):
                    yield first
            async for reply in self._replies:
                # A host that took over has placed a hold of its own.
                if not isinstance(reply, Held):
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


async def _next_of(replies: AsyncGenerator[WireReply, None]) -> WireReply:
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


def head_after_s(request: Request, longest_s: float) -> float:
    """How long the head of a stream may wait for the model's first word, so that its refusals have a status.

    An SDK says how long it waits for a byte itself; it gets the head in half of that.
    """
    for name in _READ_TIMEOUTS:
        try:
            told_s = float(request.headers[name])
        except (KeyError, ValueError):
            continue
        if told_s > 0:
            longest_s = min(longest_s, told_s / 2)
    return longest_s

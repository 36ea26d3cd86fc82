"""An actor's replies to a request, awaited while its client is connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final, Generic, TypeVar

from starlette.requests import ClientDisconnect, Request

from ...actors.domain.llm.answers import Held
from ...actors.router.conversation import Conversation
from ..edge.connections import welcome
from ..request_facts import note_paid
from .waiting import Departure, cancel, first_of

# Most answers come sooner, and checking for the client costs as much as all else in this module.
_LOOKS_AFTER_S: Final = 0.25
_HEAD: Final = "satmeter.head"
# The headers in which the SDKs of both providers send their read time-out, in seconds.
_READ_TIMEOUTS: Final = ("x-stainless-read-timeout", "x-stainless-timeout")


AnswerT = TypeVar("AnswerT")


class HeadTimer:
    """Time at which an answer's head goes out, whether its hold is placed or not; see `late_head.in_time`.

    With a hold, the head tells of it, and is made at that time by those that wait for the replies.
    """

    __slots__ = ("_placed", "due_s", "hold_placed")

    def __init__(self, request: Request, after_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.due_s = loop.time() + after_s
        self.hold_placed = False
        self._placed: asyncio.Future[None] | None = loop.create_future()
        request.scope[_HEAD] = self

    def place(self) -> None:
        """Take note of the hold."""
        self.hold_placed = True
        if self._placed is not None:
            self._placed.set_result(None)
            self._placed = None

    async def unless_placed(self, making: asyncio.Future[Any], within_s: float) -> bool:
        """Wait for what is made, or for the hold; return whether the hold came."""
        if self._placed is not None:
            await first_of(making, self._placed, within_s=within_s)
        return self.hold_placed


class Replies(Generic[AnswerT]):
    """The replies to a call, one after the other. Close them: that ends the call if no other client waits for it.

    `held`: the notice of the hold, once it is placed; it is not one of the replies.
    """

    def __init__(self, request: Request, replies: Conversation[Any, Any]) -> None:
        self._scope = request.scope
        self._receive = request.receive
        self._replies = replies
        self._head: HeadTimer | None = request.scope.get(_HEAD)
        self._next: asyncio.Future[AnswerT | Held] | None = None
        self._looks = False
        self.held: Held | None = None

    async def next(self) -> AnswerT:
        """Return the next reply. Raises the actor's exception, and `ClientDisconnect` when the client has gone."""
        while (reply := await self.within(None)) is None:
            pass
        return reply

    async def soon(self, within_s: float) -> AnswerT | None:
        """Return the next reply; None if it is later than `within_s` and the hold is placed. Raises as `next` does."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        if self._head is not None:
            deadline_s = min(deadline_s, self._head.due_s)
        while True:
            reply = await self.within(None if self.held is None else max(0.0, deadline_s - loop.time()))
            if reply is not None or (self.held is not None and loop.time() >= deadline_s):
                return reply

    async def within(self, longest_s: float | None) -> AnswerT | None:
        """Return the next reply; None if it takes longer than `longest_s`, or the notice of the hold came first.

        After None, the reply can still be awaited. Raises as `next` does.
        """
        try:
            reply: Any = None
            if not self._looks:
                waited_s = _LOOKS_AFTER_S if longest_s is None else min(_LOOKS_AFTER_S, longest_s)
                reply = await self._replies.within(waited_s)
                longest_s = None if longest_s is None else longest_s - waited_s
            if reply is None:
                self._looks = True
                reply = await self._unless_gone(longest_s)
                if reply is None:
                    return None
        except BaseException:
            await self.aclose()
            raise
        if isinstance(reply, Held):
            self.held = reply
            note_paid(self._scope)
            welcome(self._scope)
            if self._head is not None:
                self._head.place()
            return None
        answer: AnswerT = reply
        return answer

    async def _unless_gone(self, longest_s: float | None) -> Any:
        """Return the next reply; None if it takes longer. Raises `ClientDisconnect` when the client goes first."""
        reply: Any = None
        left = Departure(self._scope, self._receive)
        try:
            if self._next is None and self._replies.waits:
                reply = await self._replies.within(longest_s, left.future)
            else:
                if self._next is None:
                    self._next = asyncio.ensure_future(anext(self._replies))
                await first_of(self._next, left.future, within_s=longest_s)
        finally:
            await left.forget()
        if left.future.done() and not left.future.cancelled():
            raise ClientDisconnect
        if self._next is not None and self._next.done():
            reply, self._next = self._next.result(), None
        return reply

    async def rest(self) -> AsyncGenerator[AnswerT, None]:
        """Yield the remaining replies. Raises the actor's exception."""
        try:
            if self._next is not None:
                first = await self._next
                self._next = None
                if not isinstance(first, Held):
                    yield first
            async for reply in self._replies:
                # A host that took over has placed another hold.
                if not isinstance(reply, Held):
                    yield reply
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End the call. Raises nothing."""
        if self._next is not None:
            await cancel(self._next)
            self._next = None
        await self._replies.aclose()


def head_after_s(request: Request, longest_s: float) -> float:
    """Return how long, in seconds, a stream's head may wait for the model, whose refusal has a status until then.

    An SDK sends its read time-out, and gets the head within half of it.
    """
    for name in _READ_TIMEOUTS:
        try:
            told_s = float(request.headers[name])
        except (KeyError, ValueError):
            continue
        if told_s > 0:
            longest_s = min(longest_s, told_s / 2)
    return longest_s

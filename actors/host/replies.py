"""Replies of a host that wait for the router that asked: collected in batches by a long poll."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..domain.behaviour import Reply
from ..domain.errors import Refusal
from ..domain.llm.answers import Held
from ..messages import Answer

AnyReply = Reply | Refusal
# The notice of a hold is of use to a front after a second, when an answer is slow. Until then it goes with the next
# answer to any caller: a packet of its own costs both sides as much as the answer's.
_NOTICES_WAIT_S: Final = 0.02


@dataclass(slots=True, eq=False)
class ReplyTo:
    """Caller that waits for answers to a call. `on_cancel` is called when it no longer does.

    `tells_hold`: the call's router asked for the notice of the hold. A router of an earlier version can't read that
    notice, and would drop the connection with all its calls.
    """

    queue: ReplyQueue
    call_id: int
    tells_hold: bool = False
    cancelled: bool = False
    on_cancel: Callable[[], None] | None = None

    def answer(self, reply: AnyReply, last: bool = True) -> None:
        """Send an answer; more may follow until `last`."""
        if not self.cancelled and (self.tells_hold or not isinstance(reply, Held)):
            self.queue.put(Answer(self.call_id, reply, last))  # type: ignore[arg-type]


@dataclass(slots=True, eq=False)
class ReplyQueue:
    """Answers to one router. `last_seen_s`: the time at which it was last heard of.

    `collecting` is the wait for answers; `notices` ends the time that notices of holds wait for other answers.
    """

    last_seen_s: float
    answers: list[Answer] = field(default_factory=list)
    open_calls: dict[int, ReplyTo] = field(default_factory=dict)
    collecting: asyncio.Future[None] | None = None
    notices: asyncio.TimerHandle | None = None

    def reply_to(self, call_id: int, *, tells_hold: bool = False) -> ReplyTo:
        """Register the caller behind a call of this router, and return it."""
        reply_to = self.open_calls[call_id] = ReplyTo(self, call_id, tells_hold)
        return reply_to

    def put(self, answer: Answer) -> None:
        """Put an answer ready for collection."""
        if answer.last:
            self.open_calls.pop(answer.call_id, None)
        self.answers.append(answer)
        if not isinstance(answer.reply, Held):
            self._wake()
        elif self.notices is None:
            self.notices = asyncio.get_running_loop().call_later(_NOTICES_WAIT_S, self._give_notices)

    def cancel(self, call_id: int) -> None:
        """Cancel a call that the router no longer waits for."""
        reply_to = self.open_calls.pop(call_id, None)
        if reply_to is not None:
            reply_to.cancelled = True
            if reply_to.on_cancel is not None:
                reply_to.on_cancel()

    def abandon(self) -> None:
        """Cancel all calls of a router that is gone."""
        for call_id in list(self.open_calls):
            self.cancel(call_id)

    async def collect(self, longest_s: float) -> list[Answer]:
        """Return all answers there are; wait for the first one, at most `longest_s`."""
        if not self.answers:
            loop = asyncio.get_running_loop()
            # One that waits already is of a connection that broke.
            self._wake()
            self.collecting = loop.create_future()
            timer = loop.call_later(longest_s, self._wake)
            try:
                await self.collecting
            finally:
                timer.cancel()
        answers, self.answers = self.answers, []
        return answers

    def _give_notices(self) -> None:
        self.notices = None
        if self.answers:
            self._wake()

    def _wake(self) -> None:
        if self.collecting is not None and not self.collecting.done():
            self.collecting.set_result(None)

"""Conversation with an actor: one call, and its answers, wherever the actor moves meanwhile."""

from __future__ import annotations

import asyncio
from typing import Generic, cast

from ..domain.behaviour import Command
from ..domain.errors import Refusal, RefusedError
from ..domain.llm.answers import Held
from ..domain.session.messages import Ask, Relay
from ..messages import Answer, NotOwner, PartT, ReplyT, WireCommand, WrongReplyError, answer_types
from .indeterminate import after_resend, host_lost
from .lane import PATIENCE_S, Lane, Pending
from .lanes import Lanes


class Conversation(Generic[ReplyT, PartT]):
    """The answers to a call, one after the other: parts of the reply, if it has any, and the reply itself.

    The call is sent when the first answer is asked for. Close it: that ends the call if no other caller waits. All that
    asks for answers raises `RefusedError` for a refusal, and `WrongReplyError`.
    """

    def __init__(self, lanes: Lanes, actor_id: str, command: Command[ReplyT, PartT]) -> None:
        self._lanes = lanes
        self._actor_id = actor_id
        self._command = command
        kind, parts = answer_types(type(command))
        self._kinds = (kind, *parts)
        self._loop = asyncio.get_running_loop()
        self._deadline_s = self._loop.time() + PATIENCE_S
        self._lane: Lane | None = None
        self._pending: Pending | None = None
        self._resent = self._begun = self._over = False

    def __aiter__(self) -> Conversation[ReplyT, PartT]:
        return self

    async def __anext__(self) -> ReplyT | PartT:
        try:
            while not self._over:
                if self._pending is None:
                    await self._begin()
                assert self._pending is not None
                answer = await self._pending.next()
                if (reply := self._taken(answer)) is not None:
                    return reply
        except BaseException:
            self.close()
            raise
        raise StopAsyncIteration

    @property
    def waits(self) -> bool:
        """Return whether the call is at a host, so that its next answer needs no search for one."""
        return self._pending is not None

    async def within(
        self, longest_s: float | None, unless: asyncio.Future[None] | None = None
    ) -> ReplyT | PartT | None:
        """Return the next answer if it comes in this time, and without a search for the actor's host; else None.

        None also once `unless` is done.

        This costs less than a task that waits for the answer, and nothing is lost by it.
        """
        try:
            if self._pending is None and not self._begin_now():
                return None
            assert self._pending is not None
            answer = await self._pending.within(longest_s, unless)
            return None if answer is None else self._taken(answer)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the call."""
        self._over = True
        self._forget()

    async def aclose(self) -> None:
        """End the call, as of a generator. Raises nothing."""
        self.close()

    def _begin_now(self) -> bool:
        """Send the call if its host is known; return whether it was sent."""
        if self._over or self._lane is not None or (lane := self._lanes.known(self._actor_id)) is None:
            return False
        self._send(lane)
        return True

    async def _begin(self) -> None:
        """Send the call to the actor's host, and again if it was sent to one that does not own the actor any more."""
        former, self._lane = self._lane, None
        if former is not None:
            await self._lanes.look_again(self._actor_id, former)
        try:
            lane = await self._lanes.to_actor(self._actor_id, self._deadline_s)
        except RefusedError as error:
            raise self._unsent(error) from None
        self._send(lane)

    def _send(self, lane: Lane) -> None:
        try:
            self._pending = lane.open(self._actor_id, cast("WireCommand", self._command), resent=self._resent)
        except RefusedError as error:
            raise self._unsent(error) from None
        self._lane = lane

    def _unsent(self, error: RefusedError) -> RefusedError:
        return RefusedError(after_resend(error.refusal, self._command)) if self._resent else error

    def _taken(self, answer: Answer) -> ReplyT | PartT | None:
        """Return the reply in an answer; None where the call has to be sent to another host."""
        reply, pending = answer.reply, self._pending
        assert pending is not None
        if isinstance(reply, NotOwner):
            # The beginning of an answer can't be taken back, and a second one must not be paid for.
            if self._loop.time() >= self._deadline_s or (self._begun and isinstance(self._command, Ask | Relay)):
                raise RefusedError(host_lost(self._command))
            self._forget()
            # The host that lost the actor may have carried the command out, in a write whose confirmation was lost.
            self._resent = True
            return None
        if isinstance(reply, Refusal):
            raise RefusedError(after_resend(reply, self._command) if pending.call.resent else reply)
        if not isinstance(reply, self._kinds):
            raise WrongReplyError(type(self._command), reply)
        self._begun = self._begun or not isinstance(reply, Held)
        if answer.last:
            self.close()
        return cast("ReplyT | PartT", reply)

    def _forget(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            assert self._lane is not None
            self._lane.forget(pending)

"""Router, which the front calls: it finds an actor's host, sends calls there in batches, and survives its death."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, cast

import structlog

from ..domain.behaviour import Command, Reply
from ..domain.errors import Refusal, RefusedError, unavailable
from ..domain.llm.answers import Held
from ..domain.session.messages import Ask, Relay
from ..host_link import HostLink
from ..messages import (
    NotOwner,
    PartT,
    Ping,
    Pong,
    ReplyT,
    WireCommand,
    WrongReplyError,
    answer_types,
)
from ..ports import TransientError
from .indeterminate import after_resend, host_lost
from .lane import PATIENCE_S, Lane
from .routing_table import Owners, RoutingTable

_MOVED_PAUSE_S: Final = 0.05
_log = structlog.get_logger(__name__)


class Router:
    """Router of commands to actors, wherever they live."""

    def __init__(self, owners: Owners, connect: Callable[[str], HostLink]) -> None:
        self._routing = RoutingTable(owners)
        self._connect = connect
        self._lanes: dict[str, Lane] = {}

    async def call(self, actor_id: str, command: Command[ReplyT, Reply]) -> ReplyT:
        """Return the actor's reply, without the parts before it. Raises as `stream` does."""
        kind, _ = answer_types(type(command))
        async with aclosing(self.stream(actor_id, command)) as answers:
            async for reply in answers:
                if isinstance(reply, kind):
                    return reply
        raise RefusedError(unavailable("The actor"))

    async def stream(self, actor_id: str, command: Command[ReplyT, PartT]) -> AsyncGenerator[ReplyT | PartT, None]:
        """Yield all answers of the actor until the last one: parts of the reply, if it has any, and the reply itself.

        Raises `RefusedError` for a refusal, and `WrongReplyError`.
        """
        kind, parts = answer_types(type(command))
        kinds = (kind, *parts)
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + PATIENCE_S
        resent = begun = False
        while True:
            try:
                lane = await self._lane_of(actor_id, deadline_s)
                pending = lane.open(actor_id, cast("WireCommand", command), resent=resent)
            except RefusedError as error:
                raise RefusedError(after_resend(error.refusal, command) if resent else error.refusal) from None
            try:
                while True:
                    answer = await pending.next()
                    if isinstance(answer.reply, NotOwner):
                        # The beginning of an answer can't be taken back, and a second one must not be paid for.
                        if loop.time() >= deadline_s or (begun and isinstance(command, Ask | Relay)):
                            raise RefusedError(host_lost(command))
                        break
                    if isinstance(answer.reply, Refusal):
                        again = pending.call.resent
                        raise RefusedError(after_resend(answer.reply, command) if again else answer.reply)
                    if not isinstance(answer.reply, kinds):
                        raise WrongReplyError(type(command), answer.reply)
                    begun = begun or not isinstance(answer.reply, Held)
                    yield cast("ReplyT | PartT", answer.reply)
                    if answer.last:
                        return
            finally:
                lane.forget(pending)
            # The host that lost the actor may have carried the command out, in a write whose confirmation was lost.
            resent = True
            await self._look_again(actor_id, lane)

    async def check(self) -> None:
        """Raise `RefusedError`, `TransientError` or `TimeoutError` when a host doesn't answer, or one is missing."""
        async with asyncio.timeout(PATIENCE_S / 2):
            await self._routing.look()
            if not self._routing.complete:
                raise RefusedError(unavailable("Some of the actors"))
            for host_id in self._routing.hosts:
                await self._ping(self._lane(host_id))

    async def close(self) -> None:
        """End all traffic."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    async def _ping(self, lane: Lane) -> None:
        pending = lane.open("", Ping())
        try:
            answer = await pending.next()
        finally:
            lane.forget(pending)
        if not isinstance(answer.reply, Pong):
            raise RefusedError(answer.reply if isinstance(answer.reply, Refusal) else unavailable("A host"))

    def _lane(self, host_id: str) -> Lane:
        lane = self._lanes.get(host_id)
        if lane is None:
            lane = self._lanes[host_id] = Lane(host_id, self._connect(host_id), self._routing)
        return lane

    async def _lane_of(self, actor_id: str, deadline_s: float) -> Lane:
        """Return the lane to the actor's host.

        Waits for a host to take the actor over; raises `RefusedError` when none does.
        """
        while (host_id := self._routing.host_of(actor_id)) is None:
            if asyncio.get_running_loop().time() >= deadline_s:
                raise RefusedError(unavailable("The actor's host"))
            try:
                await self._routing.look()
            except TransientError:
                raise RefusedError(unavailable("The store")) from None
            if self._routing.host_of(actor_id) is None:
                await asyncio.sleep(_MOVED_PAUSE_S)
        return self._lane(host_id)

    async def _look_again(self, actor_id: str, lane: Lane) -> None:
        """Find out where an actor is that is no longer where it was."""
        if self._lanes.get(self._routing.host_of(actor_id) or "") is not lane:
            return  # Another caller has found out already.
        with contextlib.suppress(TransientError):
            await self._routing.look()
        if self._lanes.get(self._routing.host_of(actor_id) or "") is lane:
            # The actor is on its way, and will be there in a moment; or the store has lost the owners.
            await asyncio.sleep(_MOVED_PAUSE_S)

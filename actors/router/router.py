"""Router, which the front calls: it finds an actor's host, sends calls there in batches, and survives its death."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from ...config.log_context import note_actor
from ..domain.behaviour import Command, Reply
from ..domain.errors import Refusal, RefusedError, unavailable
from ..host_link import HostLink
from ..messages import PartT, Ping, Pong, ReplyT, answer_types
from .conversation import Conversation
from .lane import PATIENCE_S, Lane
from .lanes import Lanes
from .routing_table import Owners


class Router:
    """Router of commands to actors, wherever they live."""

    def __init__(self, owners: Owners, connect: Callable[[str], HostLink]) -> None:
        self._lanes = Lanes(owners, connect)

    async def call(self, actor_id: str, command: Command[ReplyT, Reply]) -> ReplyT:
        """Return the actor's reply, without the parts before it. Raises as `Conversation` does."""
        kind, _ = answer_types(type(command))
        async with aclosing(self.open(actor_id, command)) as answers:
            async for reply in answers:
                if isinstance(reply, kind):
                    return reply
        raise RefusedError(unavailable("The actor"))

    def open(self, actor_id: str, command: Command[ReplyT, PartT]) -> Conversation[ReplyT, PartT]:
        """Return the conversation that begins with this command."""
        note_actor(actor_id)
        return Conversation(self._lanes, actor_id, command)

    async def stream(self, actor_id: str, command: Command[ReplyT, PartT]) -> AsyncGenerator[ReplyT | PartT, None]:
        """Yield all answers of the actor until the last one. Raises as `Conversation` does."""
        async with aclosing(self.open(actor_id, command)) as answers:
            async for reply in answers:
                yield reply

    async def check(self) -> None:
        """Raise `RefusedError`, `TransientError` or `TimeoutError` when a host doesn't answer, or one is missing."""
        routing = self._lanes.routing
        async with asyncio.timeout(PATIENCE_S / 2):
            await routing.look()
            if not routing.complete:
                raise RefusedError(unavailable("Some of the actors"))
            for host_id in routing.hosts:
                await self._ping(self._lanes.to_host(host_id))

    async def close(self) -> None:
        """End all traffic."""
        await self._lanes.close()

    async def _ping(self, lane: Lane) -> None:
        pending = lane.open("", Ping())
        try:
            answer = await pending.next()
        finally:
            lane.forget(pending)
        if not isinstance(answer.reply, Pong):
            raise RefusedError(answer.reply if isinstance(answer.reply, Refusal) else unavailable("A host"))

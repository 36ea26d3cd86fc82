"""What the front calls: finds an actor's host, sends calls there in batches, and survives the host's death."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from .domain.errors import Refusal, RefusedError, unavailable
from .domain.session_api import Ask
from .messages import Answer, Call, Cancel, NotOwner, Ping, WireCommand, WireReply
from .placement import owner_of, partition_of

# Calls that a host may have unanswered from one front before new ones are refused instead of queued.
_IN_FLIGHT_MAX: Final = 20_000
# How long a call waits for a host that can't be reached. A killed one is back within about 3 s.
_PATIENCE_S: Final = 8.0
_RETRY_FIRST_S: Final = 0.05
_RETRY_MAX_S: Final = 0.5
_GREETING_S: Final = 2.0
_MOVED_PAUSE_S: Final = 0.1
_log = structlog.get_logger(__name__)


class LinkError(Exception):
    """A host can't be reached, or died while it was asked; what it was asked may or may not have been done."""


class HostLink(Protocol):
    """The way to one host. Raises `LinkError`."""

    async def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hands calls over; returns when the host has taken them."""
        ...

    async def collect(self, inbox_id: str) -> Sequence[Answer]:
        """Waits some seconds for answers."""
        ...


class Pending:
    """A call that is not answered yet: where its answers arrive. `begun`: some have, but not the last."""

    __slots__ = ("answers", "begun", "call", "since_s")

    def __init__(self, call: Call, since_s: float) -> None:
        self.call = call
        self.since_s = since_s
        self.begun = False
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()


class Lane:
    """The traffic between this front and one host.

    Whatever waits is sent as soon as the last batch has been taken, and answers are collected by a long poll, so that
    many requests share each call to the host. When the host dies, everything unanswered is sent again to its successor.
    """

    def __init__(self, link: HostLink) -> None:
        self._link = link
        self._inbox_id = secrets.token_hex(8)
        self._pending: dict[int, Pending] = {}
        self._outgoing: list[Call | Cancel] = []
        self._wanted = asyncio.Event()
        self._next_id = 0
        self._traffic: asyncio.Task[None] | None = None

    def open(self, actor_id: str, command: WireCommand, *, resent: bool = False) -> Pending:
        """Sends a call. Raises `RefusedError` when too many wait already."""
        if len(self._pending) >= _IN_FLIGHT_MAX:
            raise RefusedError(unavailable("The server is at its limit: more"))
        if self._traffic is None:
            self._traffic = asyncio.create_task(self._run())
        self._next_id += 1
        pending = Pending(Call(self._next_id, actor_id, command, resent), asyncio.get_running_loop().time())
        self._pending[self._next_id] = pending
        self._post(pending.call)
        return pending

    def forget(self, pending: Pending) -> None:
        """The caller no longer waits."""
        if self._pending.pop(pending.call.call_id, None) is not None:
            self._post(Cancel(pending.call.call_id))

    async def close(self) -> None:
        """Ends the traffic; who still waits is refused."""
        if self._traffic is not None:
            self._traffic.cancel()
            await asyncio.gather(self._traffic, return_exceptions=True)
        self._refuse(list(self._pending.values()))

    def _post(self, message: Call | Cancel) -> None:
        self._outgoing.append(message)
        self._wanted.set()

    async def _run(self) -> None:
        """Carries the traffic; when it breaks in either direction, both are set up anew."""
        while True:
            directions = {asyncio.create_task(self._send()), asyncio.create_task(self._receive())}
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in directions:
                    task.cancel()
                outcomes = await asyncio.gather(*directions, return_exceptions=True)
            defects = [o for o in outcomes if isinstance(o, Exception) and not isinstance(o, LinkError)]
            _log.warning("a host can't be reached", errors=[type(outcome).__name__ for outcome in outcomes])
            if defects:
                # Something in what was sent or received breaks us: sent again, it would do so for ever.
                _log.error("a message broke the way to a host", errors=[type(defect).__name__ for defect in defects])
                self._refuse(list(self._pending.values()))
            await self._recover()

    async def _send(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            batch, self._outgoing = self._outgoing, []
            if batch:
                await self._link.submit(self._inbox_id, batch)

    async def _receive(self) -> None:
        while True:
            for answer in await self._link.collect(self._inbox_id):
                self._dispatch(answer)

    def _dispatch(self, answer: Answer) -> None:
        pending = self._pending.get(answer.call_id)
        if pending is not None:
            pending.begun = True
            if answer.last:
                del self._pending[answer.call_id]
            pending.answers.put_nowait(answer)

    async def _recover(self) -> None:
        """Waits for the host's successor and lays ready for it all that is unanswered."""
        delay_s = _RETRY_FIRST_S
        while not await self._greet():
            self._refuse_impatient()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_MAX_S)
        # The beginning of an answer can't be taken back, and a second one must not be paid for.
        self._refuse([p for p in self._pending.values() if p.begun and isinstance(p.call.command, Ask)])
        for pending in self._pending.values():
            pending.call = replace(pending.call, resent=True)
        self._outgoing = [pending.call for pending in self._pending.values()]
        self._wanted.set()

    async def _greet(self) -> bool:
        """Whether the host answers. The inbox is a new one: late answers to the old one must not mix in."""
        self._inbox_id = secrets.token_hex(8)
        try:
            async with asyncio.timeout(_GREETING_S):
                await self._link.submit(self._inbox_id, [Call(0, "", Ping())])
                return bool(await self._link.collect(self._inbox_id))
        except (LinkError, TimeoutError):
            return False

    def _refuse_impatient(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._refuse([p for p in self._pending.values() if now_s - p.since_s > _PATIENCE_S])

    def _refuse(self, pendings: Sequence[Pending]) -> None:
        for pending in pendings:
            self._dispatch(Answer(pending.call.call_id, unavailable("The actors' host")))


class Router:
    """Sends commands to actors, wherever they live."""

    def __init__(self, links: Mapping[str, HostLink]) -> None:
        self._lanes = {host_id: Lane(link) for host_id, link in links.items()}
        self._host_ids = sorted(links)
        self._owners: dict[int, Lane] = {}

    async def call(self, actor_id: str, command: WireCommand) -> WireReply:
        """The actor's answer. Raises `RefusedError` for a refusal."""
        async with aclosing(self.stream(actor_id, command)) as answers:
            async for reply in answers:
                return reply
        raise RefusedError(unavailable("The actor"))

    async def stream(self, actor_id: str, command: WireCommand) -> AsyncGenerator[WireReply, None]:
        """All answers of the actor until the last one. Raises `RefusedError` for a refusal."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _PATIENCE_S
        resent = False
        while True:
            lane = self._lane(partition_of(actor_id))
            pending = lane.open(actor_id, command, resent=resent)
            try:
                while True:
                    answer = await pending.answers.get()
                    if isinstance(answer.reply, NotOwner) and loop.time() < deadline_s:
                        break
                    if isinstance(answer.reply, NotOwner):
                        raise RefusedError(unavailable("The actor's host"))
                    if isinstance(answer.reply, Refusal):
                        raise RefusedError(answer.reply)
                    yield answer.reply
                    if answer.last:
                        return
            finally:
                lane.forget(pending)
            # The host that lost the actor may have carried it out before, in a write whose confirmation was lost.
            resent = True
            await asyncio.sleep(_MOVED_PAUSE_S)

    async def check(self) -> None:
        """Raises `RefusedError` or `TimeoutError` when a host doesn't answer."""
        async with asyncio.timeout(_PATIENCE_S / 2):
            for lane in self._lanes.values():
                pending = lane.open("", Ping())
                try:
                    answer = await pending.answers.get()
                finally:
                    lane.forget(pending)
                if isinstance(answer.reply, Refusal):
                    raise RefusedError(answer.reply)

    async def close(self) -> None:
        """Ends all traffic."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    def _lane(self, partition: int) -> Lane:
        lane = self._owners.get(partition)
        if lane is None:
            lane = self._owners[partition] = self._lanes[owner_of(partition, self._host_ids)]
        return lane

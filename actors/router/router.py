"""What the front calls: finds an actor's host, sends calls there in batches, and survives the host's death."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog
from msgspec.structs import replace

from ..domain.errors import Refusal, RefusedError, behind, unavailable
from ..domain.llm.answers import Held
from ..domain.session.messages import Ask, Relay
from ..messages import Answer, Call, Cancel, NotOwner, Ping, Pong, WireCommand, WireReply
from ..ports import TransientError
from .fair_queue import Outgoing
from .indeterminate import lost, of_resent
from .routing_table import Owners, Whereabouts

# Calls that a host may have unanswered from one front before new ones are refused: those that wait for a model.
_IN_FLIGHT_MAX: Final = 20_000
# Calls that wait to be sent. A host that is behind takes no more for a while; about a second's worth may wait for it,
# and what comes then is told at once to come back later, instead of waiting in vain.
_OUTGOING_MAX: Final = 2_000
# So many share a call to the host: more would hold up the answers of the first ones.
_BATCH_MAX: Final = 500
# How long a call waits for a host that can't be reached. A killed one is back within about 3 s.
_PATIENCE_S: Final = 8.0
_RETRY_FIRST_S: Final = 0.05
_RETRY_MAX_S: Final = 0.5
_GREETING_S: Final = 2.0
_MOVED_PAUSE_S: Final = 0.05
_log = structlog.get_logger(__name__)


class LinkError(Exception):
    """A host can't be reached, or died while it was asked; what it was asked may or may not have been done."""


class NoHostError(LinkError):
    """There is no such host, and none on its way."""


class HostLink(Protocol):
    """The way to one host. Raises `LinkError`."""

    async def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hands calls over; returns when the host has taken them."""
        ...

    async def collect(self, inbox_id: str) -> Sequence[Answer]:
        """Waits some seconds for answers."""
        ...

    async def close(self) -> None:
        """Ends the way. Raises nothing."""
        ...


class Pending:
    """A call that is not answered yet: where its answers arrive. `begun`: parts of an answer have, but not the last.

    A queue of `asyncio` for each call would cost more than all else that is done for it here.
    """

    __slots__ = ("_answers", "_arrival", "begun", "call", "since_s")

    def __init__(self, call: Call, since_s: float) -> None:
        self.call = call
        self.since_s = since_s
        self.begun = False
        self._answers: list[Answer] = []
        self._arrival: asyncio.Future[None] | None = None

    def put(self, answer: Answer) -> None:
        """An answer has arrived."""
        self._answers.append(answer)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def next(self) -> Answer:
        """The next answer. One at a time may wait for it."""
        if not self._answers:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._answers.pop(0)


class Lane:
    """The traffic between this front and one host.

    Whatever waits is sent as soon as the last batch has been taken, and answers are collected by a long poll, so that
    many requests share each call to the host. When the host dies, everything unanswered is sent again to its successor:
    the same host, started again, or those that have taken its partitions over.
    """

    def __init__(self, host_id: str, link: HostLink, whereabouts: Whereabouts, patience_s: float | None = None) -> None:
        self._host_id = host_id
        self._link = link
        self._patience_s = patience_s or _PATIENCE_S
        self._whereabouts = whereabouts
        self._inbox_id = secrets.token_hex(8)
        self._pending: dict[int, Pending] = {}
        self._outgoing = Outgoing()
        self._wanted = asyncio.Event()
        self._next_id = 0
        self._traffic: asyncio.Task[None] | None = None

    def open(self, actor_id: str, command: WireCommand, *, resent: bool = False) -> Pending:
        """Sends a call. Raises `RefusedError` when the host is behind, or too many wait already."""
        if len(self._outgoing) >= _OUTGOING_MAX or len(self._pending) >= _IN_FLIGHT_MAX:
            raise RefusedError(behind())
        if self._traffic is None:
            self._traffic = asyncio.create_task(self._run())
        self._next_id += 1
        pending = Pending(Call(self._next_id, actor_id, command, resent), asyncio.get_running_loop().time())
        self._pending[self._next_id] = pending
        self._post(actor_id, pending.call)
        return pending

    def forget(self, pending: Pending) -> None:
        """The caller no longer waits."""
        call = pending.call
        if self._pending.pop(call.call_id, None) is not None:
            self._post(call.actor_id, Cancel(call.call_id))

    async def close(self) -> None:
        """Ends the traffic; who still waits is refused."""
        if self._traffic is not None:
            self._traffic.cancel()
            await asyncio.gather(self._traffic, return_exceptions=True)
        await self._link.close()
        self._refuse(list(self._pending.values()))

    def _post(self, actor_id: str, message: Call | Cancel) -> None:
        self._outgoing.put(actor_id, message)
        self._wanted.set()

    async def _run(self) -> None:
        """Carries the traffic; when it breaks in either direction, both are set up anew."""
        while True:
            directions = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in directions:
                    task.cancel()
                outcomes = await asyncio.gather(*directions, return_exceptions=True)
            defects = [o for o in outcomes if isinstance(o, Exception) and not isinstance(o, LinkError)]
            _log.warning("host_unreachable", errors=[type(outcome).__name__ for outcome in outcomes])
            if defects:
                # Something in what was sent or received breaks us: sent again, it would do so for ever.
                _log.error("message_broke_lane", errors=[type(defect).__name__ for defect in defects])
                self._refuse(list(self._pending.values()))
            if not await self._recover():
                await self._link.close()
                self._traffic = None
                return

    async def _send(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while batch := self._outgoing.take(_BATCH_MAX):
                await self._link.submit(self._inbox_id, batch)

    async def _receive(self) -> None:
        while True:
            for answer in await self._link.collect(self._inbox_id):
                self._dispatch(answer)

    def _dispatch(self, answer: Answer) -> None:
        pending = self._pending.get(answer.call_id)
        if pending is not None:
            pending.begun = pending.begun or not isinstance(answer.reply, Held)
            if answer.last:
                del self._pending[answer.call_id]
            pending.put(answer)

    async def _recover(self) -> bool:
        """Waits for the host's successor and lays ready for it all that is unanswered.

        False when the host is of no use any more: it owns nothing, and nobody waits for it.
        """
        delay_s = _RETRY_FIRST_S
        while not await self._greet():
            self._refuse_impatient()
            await self._redirect()
            if not self._pending and self._host_id not in self._whereabouts.hosts:
                self._outgoing = Outgoing()
                return False
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_MAX_S)
        # The beginning of an answer can't be taken back, and a second one must not be paid for.
        self._refuse([p for p in self._pending.values() if p.begun and isinstance(p.call.command, Ask | Relay)])
        for pending in self._pending.values():
            pending.call = replace(pending.call, resent=True)
        self._outgoing = Outgoing(pending.call for pending in self._pending.values())
        self._wanted.set()
        return True

    async def _redirect(self) -> None:
        """Sends those back whose partitions other hosts have taken over meanwhile: they are asked there."""
        try:
            await self._whereabouts.look()
        except TransientError:
            return
        for pending in list(self._pending.values()):
            if self._whereabouts.host_of(pending.call.actor_id) not in (self._host_id, None):
                self._dispatch(Answer(pending.call.call_id, NotOwner()))

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
        self._refuse([p for p in self._pending.values() if now_s - p.since_s > self._patience_s])

    def _refuse(self, pendings: Sequence[Pending]) -> None:
        for pending in pendings:
            self._dispatch(Answer(pending.call.call_id, lost(pending.call.command)))


class Router:
    """Sends commands to actors, wherever they live."""

    def __init__(self, owners: Owners, connect: Callable[[str], HostLink]) -> None:
        self._whereabouts = Whereabouts(owners)
        self._connect = connect
        self._lanes: dict[str, Lane] = {}

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
        resent = begun = False
        while True:
            try:
                lane = await self._lane_of(actor_id, deadline_s)
                pending = lane.open(actor_id, command, resent=resent)
            except RefusedError as error:
                raise RefusedError(of_resent(error.refusal, command) if resent else error.refusal) from None
            try:
                while True:
                    answer = await pending.next()
                    if isinstance(answer.reply, NotOwner):
                        # The beginning of an answer can't be taken back, and a second one must not be paid for.
                        if loop.time() >= deadline_s or (begun and isinstance(command, Ask | Relay)):
                            raise RefusedError(lost(command))
                        break
                    if isinstance(answer.reply, Refusal):
                        again = pending.call.resent
                        raise RefusedError(of_resent(answer.reply, command) if again else answer.reply)
                    begun = begun or not isinstance(answer.reply, Held)
                    yield answer.reply
                    if answer.last:
                        return
            finally:
                lane.forget(pending)
            # The host that lost the actor may have carried it out before, in a write whose confirmation was lost.
            resent = True
            await self._look_again(actor_id, lane)

    async def check(self) -> None:
        """Raises `RefusedError`, `TransientError` or `TimeoutError` when a host doesn't answer, or one is missing."""
        async with asyncio.timeout(_PATIENCE_S / 2):
            await self._whereabouts.look()
            if not self._whereabouts.complete:
                raise RefusedError(unavailable("Some of the actors"))
            for host_id in self._whereabouts.hosts:
                await self._ping(self._lane(host_id))

    async def close(self) -> None:
        """Ends all traffic."""
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
            lane = self._lanes[host_id] = Lane(host_id, self._connect(host_id), self._whereabouts)
        return lane

    async def _lane_of(self, actor_id: str, deadline_s: float) -> Lane:
        """The way to the actor's host. Waits for one to take the actor over; raises `RefusedError` when none does."""
        while (host_id := self._whereabouts.host_of(actor_id)) is None:
            if asyncio.get_running_loop().time() >= deadline_s:
                raise RefusedError(unavailable("The actor's host"))
            try:
                await self._whereabouts.look()
            except TransientError:
                raise RefusedError(unavailable("The store")) from None
            if self._whereabouts.host_of(actor_id) is None:
                await asyncio.sleep(_MOVED_PAUSE_S)
        return self._lane(host_id)

    async def _look_again(self, actor_id: str, lane: Lane) -> None:
        """Finds out where an actor is that is no longer where it was."""
        if self._lanes.get(self._whereabouts.host_of(actor_id) or "") is not lane:
            return  # Somebody else has found out already.
        with contextlib.suppress(TransientError):
            await self._whereabouts.look()
        if self._lanes.get(self._whereabouts.host_of(actor_id) or "") is lane:
            # It is on its way, and will be there in a moment; or this is a store that lost what it knew.
            await asyncio.sleep(_MOVED_PAUSE_S)

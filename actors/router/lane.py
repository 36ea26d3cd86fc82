"""Lane: the traffic between one router and one host, in batches, which survives the host's death."""

from __future__ import annotations

import asyncio
import secrets
from array import array
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
from msgspec.structs import replace

from ...config.log_context import in_background, present_request_id, present_traceparent
from ..domain.backoff import Backoff
from ..domain.errors import RefusedError, behind, unavailable
from ..domain.llm.answers import Held
from ..domain.llm.relays import RelayBytes
from ..domain.session.messages import Ask, Relay
from ..host_link import HostLink, LinkError
from ..messages import Answer, Call, Cancel, NotOwner, Ping, WireCommand
from ..ports import TransientError
from .fair_queue import FairQueue
from .indeterminate import host_lost
from .routing_table import RoutingTable

# Unanswered calls to a host, most of which wait for a model. A front with more of them refuses new ones.
_IN_FLIGHT_MAX: Final = 20_000
# Calls that wait to be sent. A host that is behind takes no more for a while; about a second's worth may wait for it.
# Further calls are refused at once with a time to come back, instead of waiting in vain.
_OUTGOING_MAX: Final = 2_000
# Cancellations that are sent again when a connection broke, as they may have been lost with it: the latest ones. Their
# numbers lie in one piece: as objects, those of a flood would hold pieces of its memory all over the heap.
_CANCELLED_KEPT: Final = 256
# Former connections of which a host may still hold calls; it forgets them after a while.
_QUEUES_KEPT: Final = 16
# For so long a host that could not read a command is not sent it again, unless it was started again.
_UNREAD_FOR_S: Final = 60.0
# Messages that share one call to the host. More of them would hold up the answers of the first ones.
_BATCH_MAX: Final = 500
# Longest wait of a call for a host that can't be reached. A killed one is back within about 3 s.
PATIENCE_S: Final = 8.0
_RETRY_FIRST_S: Final = 0.05
_RETRY_MAX_S: Final = 0.5
_GREETING_S: Final = 2.0
_DIED: Final = "it is started again; what Ray says of a host that died is in libraries.log in the data directory"
_OLDER: Final = "the host is of an earlier release: upgrade it. Until then such requests get 503"
_log = structlog.get_logger(__name__)


class Pending:
    """Unanswered call, at which its answers arrive. `begun`: parts of an answer have arrived, but not the last.

    A queue of `asyncio` for each call would cost more than all other work that is done for it here.
    """

    __slots__ = ("_answers", "_arrival", "begun", "call", "since_s")

    def __init__(self, call: Call, since_s: float) -> None:
        self.call = call
        self.since_s = since_s
        self.begun = False
        self._answers: list[Answer] = []
        self._arrival: asyncio.Future[None] | None = None

    def put(self, answer: Answer) -> None:
        """Take an answer that has arrived."""
        self._answers.append(answer)
        if self._arrival is not None:
            _wake(self._arrival)

    async def next(self) -> Answer:
        """Return the next answer. Only one task at a time may wait for it."""
        if not self._answers:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._first()

    async def within(self, longest_s: float | None, unless: asyncio.Future[None] | None = None) -> Answer | None:
        """Return the next answer; None if it does not come in this time, or before `unless` is done.

        Only one task at a time may wait.
        """
        if not self._answers and not (unless is not None and unless.done()):
            loop = asyncio.get_running_loop()
            self._arrival = arrival = loop.create_future()
            wake = partial(_wake, arrival)
            timer = None if longest_s is None else loop.call_later(longest_s, wake)
            if unless is not None:
                unless.add_done_callback(wake)
            try:
                await arrival
            finally:
                if timer is not None:
                    timer.cancel()
                if unless is not None:
                    unless.remove_done_callback(wake)
        return self._first() if self._answers else None

    def _first(self) -> Answer:
        """Return the first answer that waits. Bytes of a stream that wait behind each other become one answer."""
        answers = self._answers
        first = answers[0]
        count = 1
        if len(answers) > 1 and _is_piece(first):
            while count < len(answers) and _is_piece(answers[count]):
                count += 1
            if count > 1:
                data = b"".join([answer.reply.data for answer in answers[:count]])  # type: ignore[union-attr]
                first = Answer(first.call_id, RelayBytes(data), False)
        del answers[:count]
        return first


def _is_piece(answer: Answer) -> bool:
    return isinstance(answer.reply, RelayBytes) and not answer.last


def _wake(arrival: asyncio.Future[None], *_: object) -> None:
    if not arrival.done():
        arrival.set_result(None)


class Lane:
    """Traffic between this front and one host.

    Waiting messages are sent as soon as the last batch has been taken, and answers are collected by a long poll, so
    that many requests share each call to the host. When the host dies, all unanswered calls are sent again to its
    successor: the same host, started again, or those that have taken its partitions over.
    """

    def __init__(self, host_id: str, link: HostLink, routing: RoutingTable, patience_s: float | None = None) -> None:
        self._host_id = host_id
        self._link = link
        self._patience_s = patience_s or PATIENCE_S
        self._routing = routing
        self._queue_id = secrets.token_hex(8)
        self._pending: dict[int, Pending] = {}
        self._cancelled = array("Q")
        self._former_queues: deque[str] = deque(maxlen=_QUEUES_KEPT)
        self._outgoing = FairQueue()
        self._wanted = asyncio.Event()
        self._next_id = 0
        self._traffic: asyncio.Task[None] | None = None
        self._answered: set[type[WireCommand]] = {Ping}
        self._unread_until_s: dict[type[WireCommand], float] = {}

    def open(self, actor_id: str, command: WireCommand, *, resent: bool = False) -> Pending:
        """Send a call.

        Raises `RefusedError` when the host is behind, too many calls wait already, or it can't read the command.
        """
        if self._unread_until_s.get(type(command), 0.0) > asyncio.get_running_loop().time():
            raise RefusedError(unavailable("The actor's host"))
        if len(self._outgoing) >= _OUTGOING_MAX or len(self._pending) >= _IN_FLIGHT_MAX:
            raise RefusedError(behind())
        if self._traffic is None:
            self._traffic = in_background(self._run())
        self._next_id += 1
        ids = present_request_id(), present_traceparent()
        call = Call(self._next_id, actor_id, command, resent, *ids)
        pending = Pending(call, asyncio.get_running_loop().time())
        self._pending[self._next_id] = pending
        self._post(actor_id, pending.call)
        return pending

    def forget(self, pending: Pending) -> None:
        """Drop a call whose caller no longer waits."""
        call = pending.call
        if self._pending.pop(call.call_id, None) is not None:
            self._cancelled.append(call.call_id)
            del self._cancelled[:-_CANCELLED_KEPT]
            self._post(call.actor_id, Cancel(call.call_id, tuple(self._former_queues)))

    async def close(self) -> None:
        """End the traffic; refuse the calls that still wait."""
        if self._traffic is not None:
            self._traffic.cancel()
            await asyncio.gather(self._traffic, return_exceptions=True)
        await self._link.close()
        self._refuse(list(self._pending.values()))

    def _post(self, actor_id: str, message: Call | Cancel) -> None:
        self._outgoing.put(actor_id, message)
        self._wanted.set()

    async def _run(self) -> None:
        """Carry the traffic; when it breaks in either direction, set both up again."""
        while True:
            directions = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for task in directions:
                    task.cancel()
                outcomes = await asyncio.gather(*directions, return_exceptions=True)
            defects = [o for o in outcomes if isinstance(o, Exception) and not isinstance(o, LinkError)]
            error = next((str(outcome) for outcome in outcomes if isinstance(outcome, LinkError)), None)
            _log.warning("host_unreachable", host_id=self._host_id, error=error, calls=len(self._pending), hint=_DIED)
            lost_s = asyncio.get_running_loop().time()
            if defects:
                # One of the messages breaks this code. Sent again, it would do so for ever.
                _log.error("message_broke_lane", errors=[type(defect).__name__ for defect in defects])
                self._refuse(list(self._pending.values()))
            self._former_queues.append(self._queue_id)
            if not await self._recover():
                await self._link.close()
                self._traffic = None
                return
            away_s = round(asyncio.get_running_loop().time() - lost_s, 1)
            _log.info("host_reachable", host_id=self._host_id, away_s=away_s, calls=len(self._pending))

    async def _send(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while batch := self._outgoing.take(_BATCH_MAX):
                await self._link.submit(self._queue_id, batch)

    async def _receive(self) -> None:
        while True:
            for answer in await self._link.collect(self._queue_id):
                if (pending := self._pending.get(answer.call_id)) is not None:
                    self._answered.add(type(pending.call.command))
                self._dispatch(answer)

    def _dispatch(self, answer: Answer) -> None:
        pending = self._pending.get(answer.call_id)
        if pending is not None:
            pending.begun = pending.begun or not isinstance(answer.reply, Held)
            if answer.last:
                del self._pending[answer.call_id]
            pending.put(answer)

    async def _recover(self) -> bool:
        """Wait for the host's successor, and queue all unanswered calls for it again.

        Return False when the host is of no use any more: it owns nothing, and no caller waits for it.
        """
        backoff, stayed = Backoff(_RETRY_FIRST_S, _RETRY_MAX_S), True
        while not await self._greet():
            stayed = False
            self._refuse_impatient()
            await self._redirect()
            if not self._pending and self._host_id not in self._routing.hosts:
                self._outgoing = FairQueue()
                return False
            await asyncio.sleep(backoff.next())
        if stayed:
            await self._find_unread()
        else:
            # Another process, perhaps of another release.
            self._answered = {Ping}
            self._unread_until_s.clear()
        # The beginning of an answer can't be taken back, and a second one must not be paid for.
        self._refuse([p for p in self._pending.values() if p.begun and isinstance(p.call.command, Ask | Relay)])
        for pending in self._pending.values():
            pending.call = replace(pending.call, resent=True)
        self._outgoing = FairQueue(pending.call for pending in self._pending.values())
        # One that was lost on the way would leave its caller waiting at the host for as long as this router lives.
        for call_id in self._cancelled:
            self._outgoing.put("", Cancel(call_id, tuple(self._former_queues)))
        self._wanted.set()
        return True

    async def _find_unread(self) -> None:
        """Refuse the calls that the host can't read: sent again, they would break all connections to come.

        It was there all the while, so it may have ended the connection itself. A host of an earlier release does that
        to a command that it does not know. Each kind that it has never answered is tried by itself, at no actor.
        """
        pending = {type(pending.call.command): pending.call.command for pending in self._pending.values()}
        for kind in pending.keys() - self._answered:
            if await self._can_read(pending[kind]):
                self._answered.add(kind)
                continue
            _log.warning("command_not_read", host_id=self._host_id, command=kind.__name__, hint=_OLDER)
            self._unread_until_s[kind] = asyncio.get_running_loop().time() + _UNREAD_FOR_S
            self._refuse([p for p in self._pending.values() if type(p.call.command) is kind])

    async def _can_read(self, command: WireCommand) -> bool:
        """Return False if the host ends the connection at this command, and is there afterwards."""
        self._queue_id = secrets.token_hex(8)
        try:
            async with asyncio.timeout(_GREETING_S):
                await self._link.submit(self._queue_id, [Call(0, "", command)])
                await self._link.collect(self._queue_id)
        except LinkError:
            return not await self._greet()
        except TimeoutError:
            return True
        return True

    async def _redirect(self) -> None:
        """Answer `NotOwner` to calls whose partitions other hosts have taken over, so that they are sent there."""
        try:
            await self._routing.look()
        except TransientError:
            return
        for pending in list(self._pending.values()):
            if self._routing.host_of(pending.call.actor_id) not in (self._host_id, None):
                self._dispatch(Answer(pending.call.call_id, NotOwner()))

    async def _greet(self) -> bool:
        """Return whether the host answers. The queue is a new one: late answers in the old one must not mix in."""
        self._queue_id = secrets.token_hex(8)
        try:
            async with asyncio.timeout(_GREETING_S):
                await self._link.submit(self._queue_id, [Call(0, "", Ping())])
                return bool(await self._link.collect(self._queue_id))
        except (LinkError, TimeoutError):
            return False

    def _refuse_impatient(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._refuse([p for p in self._pending.values() if now_s - p.since_s > self._patience_s])

    def _refuse(self, pendings: Sequence[Pending]) -> None:
        for pending in pendings:
            self._dispatch(Answer(pending.call.call_id, host_lost(pending.call.command)))

"""Server-sent events: an endless answer that ends with its source, its client, or this process."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .waiting import Departure, Ending, cancel, first_of

MEDIA_TYPE: Final = "text/event-stream"
COMMENT: Final = b": keep-alive\n\n"
"""The default ping of a silent stream: clients skip it."""


def event(name: str, data: bytes, event_id: str | None = None) -> bytes:
    """Return the bytes of one event. `data` is JSON without line breaks."""
    identity = b"id: %b\n" % event_id.encode() if event_id is not None else b""
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), identity, data)


class Closable(Protocol):
    """The source of a stream's events, which can be closed."""

    async def aclose(self) -> None:
        """Release its resources. Raises nothing."""
        ...


class EventStream(Response):
    """A stream of events: its head is sent at once, events as they come, and a `ping` after `ping_s` of silence.

    Each item of `events` must be whole events. Events that are there without a wait are sent together. The stream
    always closes `events` and the `source` that they come from. It ends when the client goes away or `ending` is set,
    as the server waits for open answers before it stops. docs/decisions/http.md says why `sse-starlette` does not do
    for this.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        source: Closable,
        ping_s: float,
        *,
        ending: Ending | None = None,
        ping: bytes = COMMENT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # X-Accel-Buffering: nginx would hold events back until they fill a buffer.
        shown = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        super().__init__(headers=shown, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._events = events
        self._source = source
        self._ending = ending
        self._ping_s = ping_s
        self._ping = ping
        self._time = asyncio.get_running_loop().time
        self._sent_s = self._time()
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        # The source is closed separately: a generator that never ran would not release it.
        async with aclosing(self._source), aclosing(self._events):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            source = asyncio.create_task(self._pass_on(send))
            left = Departure(scope, receive, unread=_may_have_body(scope))
            try:
                await self._ping_until(source, left.future, send)
                if source.done() and not left.future.done() and not self._ends:
                    source.result()
            finally:
                await cancel(source)
                await left.forget()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @property
    def _ends(self) -> bool:
        return self._ending is not None and self._ending.is_set()

    async def _ping_until(self, source: asyncio.Task[None], left: asyncio.Future[None], send: Send) -> None:
        """Send a ping after each silence, until one of these is done, or this process ends."""
        loop = asyncio.get_running_loop()
        while not (source.done() or left.done() or self._ends):
            # A client that reads slowly is not pinged meanwhile.
            quiet_s = 0.0 if self._sending else loop.time() - self._sent_s
            if quiet_s >= self._ping_s:
                await send(part(self._ping))
                self._sent_s, quiet_s = loop.time(), 0.0
            await first_of(source, left, within_s=self._ping_s - quiet_s, ending=self._ending)

    async def _pass_on(self, send: Send) -> None:
        """Send events as they come. One task does all: to wake another one for each event would cost as much."""
        waiting: list[bytes] = []
        try:
            while True:
                step = self._events.asend(None)
                try:
                    awaited = step.send(None)
                except StopIteration as ready:
                    waiting.append(ready.value)
                    continue
                # The next event is not there yet: those before it go out, and then it is waited for.
                sending = self._send(waiting, send) if waiting else None
                waiting = []
                waiting.append(await _resumed(step, awaited, sending))
        except StopAsyncIteration:
            pass
        except Exception:
            if waiting:
                await self._send(waiting, send)
            raise
        if waiting:
            await self._send(waiting, send)

    async def _send(self, events: Sequence[bytes], send: Send) -> None:
        self._sending = True
        await send(part(events[0] if len(events) == 1 else b"".join(events)))
        self._sending, self._sent_s = False, self._time()


@types.coroutine
def _resumed(
    step: Coroutine[Any, Any, bytes], awaited: Any, first: Coroutine[Any, Any, None] | None
) -> Generator[Any, Any, bytes]:
    """Return the result of a step that was begun by hand, and has handed out what it waits for.

    What goes wrong in what is done `first` ends the step, too: it would otherwise stay begun, and could not be closed.
    """
    sent: Any = None
    raised: BaseException | None = None
    try:
        try:
            if first is not None:
                yield from first
            sent = yield awaited
        except BaseException as error:
            raised = error
        while True:
            try:
                awaited = step.send(sent) if raised is None else step.throw(raised)
            except StopIteration as ready:
                found: bytes = ready.value
                return found
            try:
                sent, raised = (yield awaited), None
            except BaseException as error:
                raised = error
    finally:
        # An exception and the frame that it went through would hold each other, and with them the whole request, until
        # the collector looks: in a quiet front, that is hours after a flood of streams.
        raised = None


def _may_have_body(scope: Scope) -> bool:
    """Return whether a GET comes with a body, which nothing has read. Those of other methods have been read."""
    if scope.get("method") != "GET":
        return False
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope.get("headers", ()))


def part(body: bytes) -> dict[str, Any]:
    """Return the message for the next bytes of a body, of which more come."""
    return {"type": "http.response.body", "body": body, "more_body": True}

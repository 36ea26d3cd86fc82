"""Server-sent events: an endless answer that ends with its source, its client, or this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .waiting import cancel, gone

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

    Each item of `events` must be whole events. Waiting events are sent together. The stream always closes `events` and
    the `source` that they come from. It ends when the client goes away or `ending` is set, as the server waits for open
    answers before it stops. docs/decisions/http.md says why `sse-starlette` does not do for this.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        source: Closable,
        ping_s: float,
        *,
        ending: asyncio.Event | None = None,
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
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        # The source is closed separately: a generator that never ran would not release it.
        async with aclosing(self._source), aclosing(self._events):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            source = asyncio.create_task(self._collect())
            ends: list[asyncio.Task[Any]] = [asyncio.create_task(gone(receive))]
            if self._ending is not None:
                ends.append(asyncio.create_task(self._ending.wait()))
            for task in (source, *ends):
                task.add_done_callback(self._wake_up)
            silence = _Silence(self._ping_s, self._wake)
            try:
                await self._forward(send, source, ends, silence)
            finally:
                silence.close()
                await cancel(source, *ends)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _collect(self) -> None:
        async for event in self._events:
            self._waiting.append(event)
            self._wake.set()

    async def _forward(
        self, send: Send, source: asyncio.Task[None], ends: Sequence[asyncio.Task[Any]], silence: _Silence
    ) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if any(end.done() for end in ends):
                return
            ended = source.done()
            if self._waiting:
                waiting, self._waiting = self._waiting, []
                await send(part(b"".join(waiting)))
                silence.begin()
            elif silence.over and not ended:
                await send(part(self._ping))
                silence.begin()
            if ended:
                source.result()
                return

    def _wake_up(self, _: asyncio.Task[Any]) -> None:
        self._wake.set()


class _Silence:
    """Clock of a stream's silence, which wakes it when that has lasted. A time-out for each event would cost more."""

    def __init__(self, lasts_s: float, wake: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._lasts_s = lasts_s
        self._wake = wake
        self._until_s = self._loop.time() + lasts_s
        self._timer = self._loop.call_later(lasts_s, self._look)
        self.over = False

    def begin(self) -> None:
        """Count from now: something was sent."""
        self._until_s = self._loop.time() + self._lasts_s
        if self.over:
            self.over = False
            self._timer = self._loop.call_later(self._lasts_s, self._look)

    def close(self) -> None:
        """Stop the clock."""
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._until_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self.over = True
        self._wake.set()


def part(body: bytes) -> dict[str, Any]:
    """Return the message for the next bytes of a body, of which more come."""
    return {"type": "http.response.body", "body": body, "more_body": True}

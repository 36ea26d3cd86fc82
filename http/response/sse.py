"""Server-sent events: an endless answer that ends with its source, its client, or this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .replies import cancel, gone

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
            try:
                await self._forward(send, source, ends)
            finally:
                await cancel(source, *ends)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _collect(self) -> None:
        async for event in self._events:
            self._waiting.append(event)
            self._wake.set()

    async def _forward(self, send: Send, source: asyncio.Task[None], ends: Sequence[asyncio.Task[Any]]) -> None:
        while True:
            try:
                async with asyncio.timeout(self._ping_s):
                    await self._wake.wait()
            except TimeoutError:
                await send(part(self._ping))
                continue
            self._wake.clear()
            if any(end.done() for end in ends):
                return
            ended = source.done()
            if self._waiting:
                waiting, self._waiting = self._waiting, []
                await send(part(b"".join(waiting)))
            if ended:
                source.result()
                return

    def _wake_up(self, _: asyncio.Task[Any]) -> None:
        self._wake.set()


def part(body: bytes) -> dict[str, Any]:
    """Return the message for the next bytes of a body, of which more come."""
    return {"type": "http.response.body", "body": body, "more_body": True}

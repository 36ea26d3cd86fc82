"""Server-sent events: an endless answer that ends with its source, its client, or this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .replies import cancel, gone

MEDIA_TYPE: Final = "text/event-stream"
# Proxies commonly close a connection that was silent for a minute, some after half of it.
KEEP_ALIVE_S: Final = 15.0
_KEEP_ALIVE: Final = b": keep-alive\n\n"


def event(name: str, data: bytes, event_id: str | None = None) -> bytes:
    """One event. `data` is JSON, which has no line breaks of its own."""
    identity = b"id: %b\n" % event_id.encode() if event_id is not None else b""
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), identity, data)


class EventStream(Response):
    """Sends events as they come, and a comment whenever it was silent for a while.

    Without `keep_alive_s` there are no such comments, which could fall into the middle of an event that comes in parts.
    What waits already is sent together. It closes `events` however it ends, and ends when the client goes away or
    `ending` is set: the server waits for open answers before it stops. `sse-starlette` would notice that only by
    reading uvicorn's signal handlers, which we replace, twice a second.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        ending: asyncio.Event | None,
        keep_alive_s: float | None = KEEP_ALIVE_S,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # X-Accel-Buffering: nginx would keep events back until it had a buffer full of them.
        shown = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        super().__init__(headers=shown, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._events = events
        self._ending = ending
        self._keep_alive_s = keep_alive_s
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the stream."""
        async with aclosing(self._events):
            # Begun before anything else can fail: a generator that never ran would not release what it holds.
            first = await anext(self._events)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send(_part(first))
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
                async with asyncio.timeout(self._keep_alive_s):
                    await self._wake.wait()
            except TimeoutError:
                await send(_part(_KEEP_ALIVE))
                continue
            self._wake.clear()
            if any(end.done() for end in ends):
                return
            ended = source.done()
            if self._waiting:
                waiting, self._waiting = self._waiting, []
                await send(_part(b"".join(waiting)))
            if ended:
                source.result()
                return

    def _wake_up(self, _: asyncio.Task[Any]) -> None:
        self._wake.set()


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}

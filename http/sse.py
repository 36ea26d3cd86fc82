"""Server-sent events: an endless answer that ends with its source, its client, or this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

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

    It closes `events` however it ends, and ends when the client goes away or `ending` is set: the server waits for
    open answers before it stops. `sse-starlette` would notice that only by reading uvicorn's signal handlers, which we
    replace, twice a second.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], ending: asyncio.Event, keep_alive_s: float = KEEP_ALIVE_S
    ) -> None:
        # X-Accel-Buffering: nginx would keep events back until it had a buffer full of them.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._events = events
        self._ending = ending
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the stream."""
        async with aclosing(self._events):
            # Begun before anything else can fail: a generator that never ran would not release what it holds.
            first = await anext(self._events)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send(_part(first))
            gone = asyncio.create_task(_gone(receive))
            ending = asyncio.create_task(self._ending.wait())
            try:
                await self._forward(send, gone, ending)
            finally:
                await _cancel(gone, ending)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _forward(self, send: Send, *ends: asyncio.Task[Any]) -> None:
        while True:
            following = asyncio.create_task(self._following())
            try:
                while not following.done():
                    done, _ = await asyncio.wait(
                        {following, *ends}, timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not done.isdisjoint(ends):
                        return
                    if not done:
                        await send(_part(_KEEP_ALIVE))
            finally:
                await _cancel(following)
            chunk = following.result()
            if not chunk:
                return
            await send(_part(chunk))

    async def _following(self) -> bytes:
        return await anext(self._events, b"")


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

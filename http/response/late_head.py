"""Heads of answers whose hold takes long: they go out before the outcome is known, and pings follow until it is.

Price, token count, payment and hold are bounded each, but together they may take longer than proxies wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ...actors.domain.errors import Code, Refusal, RefusedError
from ...actors.ports import TransientError
from ..request_facts import facts_of
from . import errors, sse
from .error_formats import shape_of
from .replies import HeadTimer
from .sse import part
from .waiting import Departure, cancel, first_of

_LINE_BREAK = b"\n"
_REFUSED_LATE = Refusal(Code.INVALID_REQUEST, "The call was refused after its answer had begun; nothing was charged.")

Refused = Callable[[Mapping[str, Any]], bytes]


def _as_event(told: Mapping[str, Any]) -> bytes:
    return sse.event("error", msgspec.json.encode(told))


async def in_time(
    request: Request,
    making: Coroutine[Any, Any, Response],
    ping_s: float,
    *,
    stream: bool,
    ping: bytes = sse.COMMENT,
    refused: Refused = _as_event,
) -> Response:
    """Return the response that is made, or a `LateHead` if that takes longer than `ping_s`.

    `refused`: the events of a stream that is refused late, from the body of the error.

    Call it once the request's body is read. Raises what `making` raises until then.
    """
    head = HeadTimer(request, ping_s)
    task = asyncio.ensure_future(making)
    try:
        if await head.unless_placed(task, ping_s):
            # From here on its own head comes in time, and tells more. A clock here would be one too many.
            return await task
    except BaseException:
        await cancel(task)
        raise
    return task.result() if task.done() else LateHead(task, ping_s, ping if stream else None, refused)


class LateHead(Response):
    """A response with the head of a success, and pings until the real response is there, which then goes on.

    A refusal comes as an error event of a stream (`ping` is its ping then), or as the body of a whole answer, behind
    which the connection is cut.
    """

    def __init__(self, making: asyncio.Future[Response], ping_s: float, ping: bytes | None, refused: Refused) -> None:
        shown = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=shown, media_type="application/json" if ping is None else sse.MEDIA_TYPE)
        del self.headers["content-length"]
        self._making = making
        self._ping_s = ping_s
        self._streams = ping is not None
        self._refused = refused
        self._ping = ping or _LINE_BREAK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, the pings and the rest. Raises `RefusedError` and `ClientDisconnect` where it must be cut."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._wait(scope, receive, send)
            response = self._making.result()
        except (RefusedError, TransientError) as error:
            refused = errors.answer(error, facts_of(scope), shape_of(scope["path"]))
            await self._refuse(bytes(refused.body), error, scope, send)
            return
        finally:
            await cancel(self._making)
        if response.status_code >= 400:
            await self._refuse(bytes(response.body), RefusedError(_REFUSED_LATE), scope, send)
            return

        async def send_rest(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        await response(scope, receive, send_rest)

    async def _wait(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = Departure(scope, receive)
        try:
            await send(part(self._ping))
            while not self._making.done():
                await first_of(self._making, left.future, within_s=self._ping_s)
                if self._making.done():
                    # A response that is there notices by itself, and must be run: it holds the call to the actor.
                    return
                if left.future.done():
                    raise ClientDisconnect
                await send(part(self._ping))
        finally:
            await left.forget()

    async def _refuse(self, body: bytes, error: Exception, scope: Scope, send: Send) -> None:
        if not self._streams:
            await send(part(body))
            raise error
        events = self._refused(msgspec.json.decode(body))
        await send({"type": "http.response.body", "body": events, "more_body": False})

"""A JSON answer whose making takes longer than proxies wait: white space goes before it until it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...actors.domain.errors import RefusedError
from ...actors.messages import WireReply
from ..middleware import request_id_of
from ..request.replies import Replies
from . import errors
from .error_formats import shape_of
from .sse import part


class CutShortError(RefusedError):
    """Ends an answer that has begun as a success and is none; `body` is what is said instead."""

    def __init__(self, error: RefusedError, body: bytes) -> None:
        super().__init__(error.refusal)
        self.body = body


class SlowAnswer(Response):
    """Sends its head at once and line breaks while it waits for the reply, which JSON allows before a value.

    Its status is then a success before it is known to be one. What fails after that ends without the end of its body,
    behind the error as it would have been: to a program it is a connection that broke, and nothing was charged.
    """

    def __init__(
        self,
        replies: Replies,
        render: Callable[[WireReply], bytes],
        ping_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        shown = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        super().__init__(headers=shown, media_type="application/json")
        del self.headers["content-length"]
        self._replies = replies
        self._render = render
        self._ping_s = ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Waits, and sends the answer. Raises `RefusedError` and `ClientDisconnect` when it can't be ended."""
        async with aclosing(self._replies):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send(part(b"\n"))
            try:
                while (reply := await self._replies.within(self._ping_s)) is None:
                    await send(part(b"\n"))
                body = self._render(reply)
            except CutShortError as error:
                await send(part(error.body))
                raise
            except RefusedError as error:
                await send(part(bytes(errors.answer(error, request_id_of(scope), shape_of(scope["path"])).body)))
                raise
        await send({"type": "http.response.body", "body": body, "more_body": False})

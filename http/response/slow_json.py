"""Slow JSON answers, which may take longer than proxies wait: white space is sent until the answer is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Generic

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...actors.domain.errors import RefusedError
from ..request_facts import facts_of
from . import errors
from .error_formats import shape_of
from .replies import AnswerT, Replies
from .sse import part


class CutShortError(RefusedError):
    """A failure of an answer that has begun as a success; `body` is sent instead."""

    def __init__(self, error: RefusedError, body: bytes) -> None:
        super().__init__(error.refusal)
        self.body = body


class SlowAnswer(Response, Generic[AnswerT]):
    """A response that sends its head at once, and line breaks, which JSON allows, until the reply is there.

    So its status is a success before the outcome is known. A later failure sends the error's body without the end of
    the response: to a program it is a broken connection. Nothing was charged
    then, unless the body says otherwise.
    """

    def __init__(
        self,
        replies: Replies[AnswerT],
        render: Callable[[AnswerT], bytes],
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
        """Wait, and send the answer. Raises `RefusedError` and `ClientDisconnect` when it can't be completed."""
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
                await send(part(bytes(errors.answer(error, facts_of(scope), shape_of(scope["path"])).body)))
                raise
        await send({"type": "http.response.body", "body": body, "more_body": False})

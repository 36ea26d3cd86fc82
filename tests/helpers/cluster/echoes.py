"""A provider and a node that, when told to, put the key that they were sent into their errors."""

from __future__ import annotations

import re
import threading
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi, free_port

PROMPT = "how high is {}?"
"""A prompt, with 40 hexadecimal digits in it."""
_PROMPT = re.compile(rb"how high is [0-9a-f]{40}")


class EchoingProvider(MessagesApi):
    """The stub Messages API, whose next answers are errors of this status that quote the key."""

    echoes: int | None = None

    async def _answer(self, request: Request) -> Response:
        if self.echoes is None:
            # The stub quotes what it was asked, and answers are kept in the store: here, prompts must not be in them.
            request._body = _PROMPT.sub(lambda found: b"x" * len(found[0]), await request.body())
            return await super()._answer(request)
        body = (await request.body()).decode(errors="replace")
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "")
        # What a provider says of a faulty body is for the client that wrote it, and may quote it.
        quoted = "that" if self.echoes in (400, 413, 422) else body
        told = {"type": "invalid_request_error", "message": f"key {key} may not send {quoted}"}
        headers = {"request-id": f"req-{key}", "www-authenticate": f"Bearer {key}", "x-echo": key}
        return JSONResponse({"type": "error", "error": told}, self.echoes, headers)


class EchoingNode:
    """LNbits, through a proxy that quotes keys in its errors while `echoes` is a status."""

    def __init__(self, url: str) -> None:
        self.echoes: int | None = None
        self._lnbits = url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"])])
        self._server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_config=None))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the server."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)

    async def _answer(self, request: Request) -> Response:
        key = request.headers.get("x-api-key", "")
        if self.echoes is not None:
            told: dict[str, Any] = {"detail": f"wallet {key} is not here", "status": "failed"}
            return JSONResponse(told, self.echoes, {"x-echo": key})
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
            sent = {"X-Api-Key": key, "Content-Type": "application/json"} if key else {}
            answer = await client.request(
                request.method, f"{self._lnbits}{request.url.path}", params=request.query_params, headers=sent,
                content=await request.body(),
            )  # fmt: skip
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

"""Port of its own for the metrics, which the operator keeps from strangers: it asks for no token."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import structlog
import uvicorn
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...config.settings import Settings
from ...http.edge.connections import Connections
from ...http.edge.shares import Caps
from ...http.metrics import Metrics
from ...http.protocol import HttpProtocol
from ...http.request_facts import RequestFacts
from ...http.request_id import new_request_id
from ...http.response import errors

_PATH: Final = "/metrics"
_METHODS: Final = ("GET", "HEAD")
_log = structlog.get_logger(__name__)
_CONNECTIONS: Final = Caps(16, 16, 32)


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: they raise the signal again after its shutdown, which would cut off ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


@asynccontextmanager
async def serving_metrics(metrics: Metrics, settings: Settings) -> AsyncIterator[None]:
    """Serve the metrics of this front on their port, if they have one. Raises `OSError` where the port is taken."""
    if settings.metrics_port is None:
        yield
        return
    server = Server(_config(_app(metrics)))
    task = asyncio.create_task(server.serve(sockets=[_listener(settings, settings.metrics_port)]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _app(metrics: Metrics) -> ASGIApp:
    async def show(scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        try:
            answer = await _answer(metrics, scope)
        except Exception as error:
            _log.warning("metrics_not_shown", request_id=request_id, error_type=type(error).__name__)
            answer = errors.answer(error, RequestFacts(request_id))
        answer.headers["X-Request-Id"] = request_id
        await answer(scope, receive, send)

    return show


async def _answer(metrics: Metrics, scope: Scope) -> Response:
    if scope["path"] != _PATH:
        raise HTTPException(404, scope["path"])
    if scope["method"] == "OPTIONS":
        return Response(status_code=204, headers={"Allow": ", ".join((*_METHODS, "OPTIONS"))})
    if scope["method"] not in _METHODS:
        raise HTTPException(405, headers={"Allow": ", ".join(_METHODS)})
    accept = dict(scope["headers"]).get(b"accept", b"")
    return await metrics.text(accept.decode("latin-1"))


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(HttpProtocol, connections=Connections(_CONNECTIONS)),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


def _listener(settings: Settings, port: int) -> socket.socket:
    """Listen on the metrics' port. Several fronts share it, as they share the other."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, port), family=family, reuse_port=settings.workers > 1)

"""Port of its own for the metrics, which the operator keeps from strangers: it asks for no token."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import uvicorn
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...config.settings import Settings
from ...http.edge.connections import Connections
from ...http.edge.shares import Caps
from ...http.metrics import Metrics
from ...http.protocol import HttpProtocol

_PATH: Final = "/metrics"
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
        answer: Response = PlainTextResponse(f"The metrics are at {_PATH}.\n", 404)
        if scope["path"] == _PATH:
            accept = dict(scope["headers"]).get(b"accept", b"")
            answer = await metrics.text(accept.decode("latin-1"))
        await answer(scope, receive, send)

    return show


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

"""Endpoint: a route together with its documentation, so that neither can exist without the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .operation import Operation


class _Handler:
    """A handler as an ASGI application.

    Starlette would wrap a plain function in two layers that answer exceptions; `RequestMiddleware` answers all of them.
    """

    def __init__(self, handler: Callable[[Request], Awaitable[Response]]) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handler(Request(scope, receive, send))
        await response(scope, receive, send)


def route(method: str, path: str, handler: Callable[[Request], Awaitable[Response]], name: str | None = None) -> Route:
    """Return a route for Starlette, which adds HEAD to a GET."""
    return Route(path, _Handler(handler), methods=[method], name=name)


class Endpoint(NamedTuple):
    """One line of the table in `app.py`. `path` is OpenAPI's template, which is Starlette's too."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    operation: Operation

    def route(self) -> Route:
        """Return the route for Starlette, which adds HEAD to a GET."""
        # A model's name may have slashes.
        path = self.path.replace("{modelId}", "{modelId:path}")
        return route(self.method, path, self.handler, self.operation.id)

"""A route together with what is documented of it, so that neither can be there without the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .operations import Operation


class Endpoint(NamedTuple):
    """One line of the table in `app.py`. `path` is OpenAPI's template, which is Starlette's too."""

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    operation: Operation

    def route(self) -> Route:
        """For Starlette, which adds HEAD to a GET."""
        return Route(self.path, self.handler, methods=[self.method], name=self.operation.id)

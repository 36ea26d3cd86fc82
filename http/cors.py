"""Cross-origin access for browsers: to the API's paths, whose credentials no browser sends by itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ..actors.domain.errors import RefusedError
from .aliases import is_operators
from .edge.gate import Gate

ANY: Final = "*"
EXPOSED: Final = (
    "Satmeter-Debited-Msat",
    "Satmeter-Balance-Msat",
    "Satmeter-Max-Tokens",
    "Satmeter-Ignored",
    "WWW-Authenticate",
    "Retry-After",
    "X-Should-Retry",
    "Location",
    "Link",
    "Request-Id",
    "X-Request-Id",
)
"""The answers' headers that a page may read beside those that browsers show anyway."""
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "OPTIONS")
# Browsers keep the answer to a preflight no longer than two hours.
_MAX_AGE_S: Final = 7_200


class CorsMiddleware:
    """The application behind it, for pages of `origins` too: Starlette's middleware, but not for the operator's paths.

    A preflight that is not allowed gets the path's own answer to OPTIONS, without a header that lets it pass. So does
    one of a client that asks too often: the gate of the application refuses it.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], gate: Gate) -> None:
        self._app = app
        self._gate = gate
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=(ANY,),
            expose_headers=EXPOSED,
            max_age=_MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        concerns = scope["type"] == "http" and not is_operators(scope["path"]) and self._concerns(scope)
        if not concerns:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and _is_preflight(Headers(scope=scope)):
            await self._preflight(scope, receive, send)
        else:
            await self._cors(scope, receive, send)

    async def _preflight(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, which never gets to the application, and count it as any request."""
        try:
            visit = self._gate.enter(scope)
        except RefusedError:
            await self._app(scope, receive, send)
            return
        try:
            await self._cors(scope, receive, send)
        finally:
            self._gate.leave(scope, visit, 200)

    def _concerns(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None:
            # Answers to narrowed origins differ by the header, which caches must know though it is absent here.
            return not self._cors.allow_all_origins
        if scope["method"] != "OPTIONS" or not _is_preflight(headers):
            return True
        wanted = headers["access-control-request-method"]
        return self._cors.is_allowed_origin(origin) and wanted in _METHODS


def _is_preflight(headers: Headers) -> bool:
    return "origin" in headers and "access-control-request-method" in headers

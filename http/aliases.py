"""Paths that clients build from a base URL that is not quite right, and what they mean."""

from __future__ import annotations

import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

_SLASHES: Final = re.compile(r"/{2,}")
_VERSIONS: Final = re.compile(r"^(?:/v1)+(?=/|$)")
# The first segments of the providers' paths. Some SDKs want a base URL that ends in /v1, and others one that doesn't.
_OF_PROVIDERS: Final = re.compile(
    r"/(?:messages|chat|models|responses|completions|embeddings|moderations|files|batches|images|audio)(?=/|$)"
)

_OPERATORS: Final = ("/metrics", "/operator", "/readyz")


def meant(path: str) -> str:
    """Return the path that a client meant: without doubled and last slashes, and one /v1 before a provider's."""
    path = _VERSIONS.sub("/v1", _SLASHES.sub("/", path)).rstrip("/") or "/"
    return f"/v1{path}" if _OF_PROVIDERS.match(path) else path


def is_operators(path: str) -> bool:
    """Return True for a path that only the operator needs. It has no alias, and no page of another origin reads it."""
    return any(path == own or path.startswith(f"{own}/") for own in _OPERATORS)


class Aliases:
    """The last resort of a router: takes a path that has no route for the one that was meant, or raises a 404.

    The 404, too, is about the path that was meant, and has the format of its API.
    """

    def __init__(self, router: Router) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a path without a route. Raises `HTTPException`."""
        asked = scope["path"]
        scope["path"] = meant(asked)
        if scope["path"] == asked or is_operators(scope["path"]):
            raise HTTPException(404, scope["path"])
        await self._router(scope, receive, send)

"""Errors in the shape of the protocol that a path speaks, so that its clients raise their own kinds of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Shape = Callable[[int, Mapping[str, Any]], dict[str, Any]]
"""Makes an error body of a status and of the body that our own paths have."""

# Source: the Messages API's reference, "Errors".
_ANTHROPIC: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def plain(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Our own."""
    return dict(body)


def anthropic(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """That of the Messages API. The code, which its SDK shows as `error_code`, and what helps stand outside, too."""
    kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": body["error"], "details": {"error_code": body["code"]}}
    return {**body, "type": "error", "error": error, "request_id": body["requestId"]}


_BY_PATH: Final[tuple[tuple[str, Shape], ...]] = (("/v1/messages", anthropic),)


def shape_of(path: str) -> Shape:
    """The shape that errors have on a path."""
    return next((shape for prefix, shape in _BY_PATH if path.startswith(prefix)), plain)

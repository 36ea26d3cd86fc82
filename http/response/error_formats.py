"""Error bodies in the format of each path's protocol, so that its SDK raises its own exceptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Shape = Callable[[int, Mapping[str, Any]], dict[str, Any]]
"""Builds an error body from a status and the body in this server's own format."""

# Source: the Messages API's reference, "Errors".
_ANTHROPIC: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}

# Source: OpenAI's guide "Error codes".
_OPENAI: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


def plain(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body in this server's own format."""
    return dict(body)


def anthropic(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body in the Messages API's format, with `error_code` for its SDK, and our fields beside `error`."""
    kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": body["error"], "details": _details(body)}
    return {**body, "type": "error", "error": error, "request_id": body["requestId"]}


def _details(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details from which the SDK sees what to do without: it sends the conversation without `thread`."""
    unsupported = body.get("unsupported")
    if unsupported:
        return {"error_code": f"{unsupported[0]}_unsupported_request", "unsupported": unsupported}
    return {"error_code": body["code"]}


def openai(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body in OpenAI's format, which names only the first wrong field, with our fields beside `error`."""
    fields = body.get("fields")
    param = fields[0]["path"] or None if fields else None
    error = {"message": body["error"], "type": openai_type(status), "param": param, "code": body["code"]}
    return {**body, "error": error}


def openai_type(status: int) -> str:
    """Return OpenAI's type of an error with this status."""
    return _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")


def either(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body in both formats at once, for paths that clients of both APIs request."""
    first, second = openai(status, body), anthropic(status, body)
    return {**second, "error": {**first["error"], **second["error"]}}


_BY_PATH: Final[tuple[tuple[str, Shape], ...]] = (
    ("/v1/messages", anthropic),
    ("/v1/chat/", openai),
    ("/v1/responses", openai),
    # Clients of either API request other paths.
    ("/v1/", either),
)


def shape_of(path: str) -> Shape:
    """Return the format of errors on a path."""
    return next((shape for prefix, shape in _BY_PATH if path.startswith(prefix)), plain)

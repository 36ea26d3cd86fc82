"""Error bodies in the format of each path's protocol, so that its SDK raises its own exceptions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...actors.domain.errors import Code

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

# How each API says that a prompt is too long. Programs look for these words, and send a shorter conversation.
# Source: the errors of both APIs as their users quote them, and what programs match: "prompt is too long",
# "maximum context length", `context_length_exceeded`, and for a body "request exceeds the maximum size".
CONTEXT_LENGTH: Final = "context_length_exceeded"
PROMPT_TOKENS: Final = "promptTokens"
"""The field with a prompt's tokens, in a refusal of one that is too long."""
PROMPT_TOKENS_MAX: Final = "promptTokensMax"
"""The field beside it with the most tokens that a prompt may have."""
_PROMPT: Final = re.compile(r"prompt is too long: (\d{1,12}) tokens > (\d{1,12})")
_MAXIMUM_SIZE: Final = "Request exceeds the maximum size. "


def plain(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body in this server's own format."""
    return dict(body)


def anthropic(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body in the Messages API's format, with `error_code` for its SDK, and our fields beside `error`."""
    kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": _too_long_at_anthropic(body) + body["error"], "details": _details(body)}
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
    message, too_long = body["error"], _too_long_at_openai(body)
    code = CONTEXT_LENGTH if too_long else body["code"]
    error = {"message": too_long + message, "type": openai_type(status), "param": param, "code": code}
    return {**body, "error": error}


def _too_long_at_anthropic(body: Mapping[str, Any]) -> str:
    """Return the beginning of a sentence about a call that is too long; empty for other errors."""
    if PROMPT_TOKENS in body:
        return f"prompt is too long: {body[PROMPT_TOKENS]} tokens > {body[PROMPT_TOKENS_MAX]} maximum. "
    return _MAXIMUM_SIZE if body["code"] == Code.BODY_TOO_LARGE else ""


def _too_long_at_openai(body: Mapping[str, Any]) -> str:
    if PROMPT_TOKENS in body:
        return f"{context_length(body[PROMPT_TOKENS_MAX], body[PROMPT_TOKENS])} "
    return _MAXIMUM_SIZE if body["code"] == Code.BODY_TOO_LARGE else ""


def prompt_length(message: str) -> tuple[int, int] | None:
    """Return a prompt's tokens, and the most that it may have, from the Messages API's sentence about a longer one."""
    found = _PROMPT.match(message)
    return None if found is None else (int(found[1]), int(found[2]))


def context_length(max_tokens: int, tokens: int) -> str:
    """Return OpenAI's sentence about messages of so many tokens."""
    return (
        f"This model's maximum context length is {max_tokens} tokens. However, your messages resulted in {tokens} "
        "tokens. Please reduce the length of the messages."
    )


def openai_type(status: int) -> str:
    """Return OpenAI's type of an error with this status."""
    return _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")


def lnurl(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with the fields that wallets read (LUD-03)."""
    return {**body, "status": "ERROR", "reason": body["error"]}


def either(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body in both formats at once, for paths that clients of both APIs request."""
    first, second = openai(status, body), anthropic(status, body)
    return {**second, "error": {**first["error"], **second["error"]}}


_BY_PATH: Final[tuple[tuple[str, Shape], ...]] = (
    ("/v1/messages", anthropic),
    ("/lnurl/", lnurl),
    ("/v1/chat/", openai),
    ("/v1/responses", openai),
    # Clients of either API request other paths.
    ("/v1/", either),
)


def shape_of(path: str) -> Shape:
    """Return the format of errors on a path."""
    # A client's base URL may be asked for as it is: /v1 without a slash behind it is of these APIs, too.
    return next((shape for prefix, shape in _BY_PATH if f"{path}/".startswith(prefix)), plain)

"""Errors as OpenAI's SDKs read them, with our own fields beside theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..actors.domain.errors import Code

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"


class _ProviderError(msgspec.Struct):
    type: str = ""
    message: str = ""


class _ProviderAnswer(msgspec.Struct):
    error: _ProviderError


def shaped(status: int, told: Mapping[str, Any]) -> dict[str, Any]:
    """Our error body as OpenAI's: `error` is an object, and every other field stays where it is."""
    fields = told.get("fields")
    # OpenAI names one field.
    param = fields[0]["path"] or None if fields else None
    error = {"message": told["error"], "type": _type(status), "param": param, "code": told["code"]}
    return {**told, "error": error}


def of_provider(status: int, body: bytes, request_id: str) -> dict[str, Any]:
    """The provider's refusal of what the client sent, in the same shape."""
    try:
        found = msgspec.json.decode(body, type=_ProviderAnswer).error
    except (ValueError, RecursionError):
        found = _ProviderError()
    message = found.message or "The model provider does not take this request."
    error = {"message": message, "type": _type(status), "param": None, "code": found.type or None}
    code = Code.BODY_TOO_LARGE if status == 413 else Code.INVALID_REQUEST
    return {"error": error, "code": code.value, "requestId": request_id}


def _type(status: int) -> str:
    return _TYPES.get(status, _SERVER if status >= 500 else _INVALID)

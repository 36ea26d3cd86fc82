"""The provider's refusals of a request, in OpenAI's error format."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ...actors.domain.errors import Code
from ..response.error_formats import openai_type

# How the Messages API begins to say that a prompt does not fit. Clients of OpenAI's APIs know it by a code.
_TOO_LONG: Final = ("prompt is too long", "input length and `max_tokens` exceed")


class _ProviderError(msgspec.Struct):
    type: str = ""
    message: str = ""


class _ProviderAnswer(msgspec.Struct):
    error: _ProviderError


def of_provider(status: int, body: bytes, request_id: str) -> dict[str, Any]:
    """Return the error body for a refusal of the Messages API, with this server's own fields beside OpenAI's."""
    try:
        found = msgspec.json.decode(body, type=_ProviderAnswer).error
    except (ValueError, RecursionError):
        found = _ProviderError()
    message = found.message or "The model provider does not take this request."
    kind = "context_length_exceeded" if found.message.startswith(_TOO_LONG) else found.type or None
    error = {"message": message, "type": openai_type(status), "param": None, "code": kind}
    code = Code.BODY_TOO_LARGE if status == 413 else Code.INVALID_REQUEST
    return {"error": error, "code": code.value, "requestId": request_id}

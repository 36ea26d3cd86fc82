"""Refusals of the provider under the Messages API: its own words, with this server's fields beside them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..response.error_formats import anthropic
from ..translation.provider_errors import own_fields

_UNTOLD: Final = "The model provider does not take this request."


def refusal_body(status: int, body: bytes, request_id: str) -> bytes:
    """Return the body of a refusal, in one line. What the provider told stays; its id of the request does, too."""
    told = _told(body)
    error = told.get("error")
    if isinstance(error, dict) and isinstance(error.get("type"), str) and isinstance(error.get("message"), str):
        own = own_fields(status, error["message"], request_id)
        found = {"type": "error", "request_id": request_id, **told, **own}
    else:
        found = anthropic(status, {"error": _UNTOLD, **own_fields(status, _UNTOLD, request_id)})
    return msgspec.json.encode(found)


def _told(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError):
        return {}

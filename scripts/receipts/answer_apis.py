"""APIs of saved answers, by their bytes, whole or streamed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.catalogue import Api

_RESPONSES: Final = "responses"
API_NAMES: Final[Mapping[str, str]] = {
    Api.ANTHROPIC: "the Messages API",
    Api.OPENAI: "chat completions",
    _RESPONSES: "the Responses API",
}
"""Names of the APIs for people, by what `api_of` returns."""

_DATA: Final = re.compile(rb"^data:[ \t]*(\{[^\r\n]*)", re.MULTILINE)
_OBJECTS: Final[Mapping[str, str]] = {
    "response": _RESPONSES,
    "chat.completion": Api.OPENAI,
    "chat.completion.chunk": Api.OPENAI,
}


def is_whole(answer: bytes) -> bool:
    """Return whether an answer is one JSON object, not a stream of events."""
    return _object(answer) is not None


def api_of(answer: bytes) -> str | None:
    """Return the API of an answer, a key of `API_NAMES`; None where it can't be told."""
    begun = _DATA.search(answer)
    found = _object(answer) or (_object(begun[1]) if begun is not None else None) or {}
    kind = found.get("type")
    if kind in ("message", "message_start"):
        return Api.ANTHROPIC
    if isinstance(kind, str) and kind.startswith("response."):
        return _RESPONSES
    told = found.get("object")
    api = _OBJECTS.get(told) if isinstance(told, str) else None
    return Api.OPENAI if api is None and isinstance(found.get("choices"), list) else api


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

"""Refusals of a call by an upstream of OpenAI's shape, whose servers agree on little more than a status."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

_NO_REASON: Final = "The model provider does not take this request."
_MESSAGE_CHARS_MAX: Final = 2_000
# How servers say that a prompt does not fit: OpenAI and vLLM, llama.cpp, and others in words alone.
_TOO_LONG_KINDS: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG: Final = re.compile(r"context (?:length|size|window)|prompt is too long", re.IGNORECASE)
_CONTEXT: Final = re.compile(r"maximum context length is (\d{1,12})")
_PROMPT: Final = re.compile(
    r"(\d{1,12}) in the messages|messages resulted in (\d{1,12})|has (\d{1,12}) input tokens"
    r"|(\d{1,12}) (?:of text )?in (?:the|your) (?:prompt|input)"
)
_ANSWER: Final = re.compile(r"(\d{1,12}) in the completion|is too large: (\d{1,12})")


class ChatRefusal(NamedTuple):
    """A refusal as the upstream gave it. The figures are None where it told none.

    `too_long`: the prompt, with the answer's limit, does not fit the model's context of `context_tokens`.
    """

    message: str
    kind: str | None = None
    code: str | None = None
    param: str | None = None
    too_long: bool = False
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    context_tokens: int | None = None


def refusal_of(body: bytes) -> ChatRefusal:
    """Return the refusal in a body; one without a reason for a body that can't be read."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        found = None
    found = found if isinstance(found, dict) else {}
    error = found.get("error")
    inner: Mapping[str, Any] = error if isinstance(error, dict) else found
    # FastAPI's servers tell a wrong field in `detail`, older ones of Ollama the sentence in `error`.
    message = _word(inner.get("message")) or _word(error) or _detail(found.get("detail"))
    kind, code, param = (_word(inner.get(name)) for name in ("type", "code", "param"))
    too_long = bool({kind, code} & _TOO_LONG_KINDS or (message and _TOO_LONG.search(message)))
    return ChatRefusal(
        message=message or _NO_REASON,
        kind=kind,
        code=code,
        param=param,
        too_long=too_long,
        prompt_tokens=_count(inner.get("n_prompt_tokens")) or _told(_PROMPT, message),
        answer_tokens=_told(_ANSWER, message),
        context_tokens=_count(inner.get("n_ctx")) or _told(_CONTEXT, message),
    )


def _detail(detail: Any) -> str | None:
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        place = detail[0].get("loc")
        where = ".".join(map(str, place)) if isinstance(place, list) else ""
        return ": ".join(filter(None, (where, _word(detail[0].get("msg"))))) or None
    return _word(detail)


def _told(pattern: re.Pattern[str], message: str | None) -> int | None:
    found = pattern.search(message or "")
    return None if found is None else int(next(filter(None, found.groups())))


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _word(value: Any) -> str | None:
    return value[:_MESSAGE_CHARS_MAX] if isinstance(value, str) and value else None

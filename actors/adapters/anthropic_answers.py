"""Reads answers of Anthropic's Messages API: the text, the verdict and the usage, from the bytes that came.

The SDK's own models take whatever arrives without checking it, so that a wrong type would surface anywhere later.
Here what does not fit the schema is refused at once.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final, Literal

import msgspec

from ..domain.pricing import Size, Usage
from ..ports import Completion, Evaluation, PermanentError, TransientError, Verdict

_REASON_MAX_CHARS: Final = 300
# No request can use more: a larger figure is a fault of the provider, and would price the work at fantasy.
_TOKENS_MAX: Final = 100_000_000

_Count = Annotated[int, msgspec.Meta(ge=0, le=_TOKENS_MAX)]


class _CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: _Count
    ephemeral_1h_input_tokens: _Count


class _Usage(msgspec.Struct):
    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_creation: _CacheCreation | None = None


class _Block(msgspec.Struct):
    """A content block. Thinking, and kinds that don't exist yet, come beside text and are passed over."""

    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    type: Literal["message"]
    content: list[_Block]
    stop_reason: str
    # Read apart from the rest: an answer with unreadable usage is still an answer.
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _VerdictText(msgspec.Struct, forbid_unknown_fields=True):
    reason: str
    decision: Literal["accept", "reject"]
    size: Size


def read_evaluation(body: bytes, model: str) -> Evaluation:
    """The verdict in an answer. Raises `TransientError` for all that is not exactly one.

    A refusal and an answer that was cut off are no verdicts either: only the judge's own word may accept.
    """
    message = _message(body)
    if message.stop_reason != "end_turn":
        raise TransientError(f"the evaluation ended without a verdict: {_word(message.stop_reason)}")
    try:
        found = msgspec.json.decode(_text(message), type=_VerdictText)
    except (ValueError, RecursionError):
        raise TransientError("the evaluation's verdict is unreadable") from None
    reason = _clean(found.reason)
    if not reason:
        raise TransientError("the evaluation's verdict has no reason")
    return Evaluation(Verdict(found.decision == "accept", reason, found.size), model, read_usage(message.usage))


def read_completion(body: bytes, model: str) -> Completion:
    """The work in an answer. `model` is the one that was asked for, which is the one that has a price.

    Raises `PermanentError` for a refusal and for an answer whose tokens ran out before its first word, both of which a
    repetition would only pay for again; `TransientError` for an unreadable or empty one.
    """
    message = _message(body)
    return completion_of(_text(message), model, read_usage(message.usage), message.stop_reason)


def completion_of(text: str, model: str, usage: Usage | None, stop_reason: str) -> Completion:
    """The work, if it is any. Raises as `read_completion` does for a refusal and for an empty answer."""
    if stop_reason == "refusal":
        raise PermanentError("the model refused the request")
    if not text.strip():
        if stop_reason == "max_tokens":
            raise PermanentError("the model used all its tokens before the first word of an answer")
        raise TransientError(f"the model's answer is empty: {_word(stop_reason)}")
    return Completion(text, model, usage, stop_reason)


def read_usage(raw: bytes | msgspec.Raw) -> Usage | None:
    """The tokens of a "usage" object; None when a figure is missing, negative, absurd or not a whole number.

    Cache writes without a breakdown by lifetime count as 5-minute writes, the default of the API. Source: Anthropic's
    prompt caching guide; `cache_creation_input_tokens` is the sum of the breakdown.
    """
    try:
        found = msgspec.json.decode(raw, type=_Usage)
    except (ValueError, RecursionError):
        return None
    by_lifetime = found.cache_creation or _CacheCreation(0, 0)
    one_hour = by_lifetime.ephemeral_1h_input_tokens
    # Were the breakdown ever incomplete, the rest must not be free.
    written = max(found.cache_creation_input_tokens or 0, by_lifetime.ephemeral_5m_input_tokens + one_hour)
    return Usage(
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        cache_read_tokens=found.cache_read_input_tokens or 0,
        cache_write_5m_tokens=written - one_hour,
        cache_write_1h_tokens=one_hour,
    )


def _message(body: bytes) -> _Message:
    try:
        return msgspec.json.decode(body, type=_Message)
    except (ValueError, RecursionError):
        # The decoder's own error may quote the answer, and with it the request.
        raise TransientError("the model provider's answer is unreadable") from None


def _text(message: _Message) -> str:
    parts = [block.text for block in message.content if block.type == "text"]
    if None in parts:
        raise TransientError("a text block of the model provider's answer has no text")
    return "".join(part for part in parts if part is not None)


def _clean(reason: str) -> str:
    """One line of at most 300 characters without control, direction or unassigned characters: it is shown to people."""
    if not reason.isprintable():
        reason = "".join(" " if unicodedata.category(char).startswith(("C", "Z")) else char for char in reason)
    line = " ".join(reason.split())
    return line if len(line) <= _REASON_MAX_CHARS else line[: _REASON_MAX_CHARS - 1].rstrip() + "…"


def _word(stop_reason: str) -> str:
    """A stop reason that is fit for a log: the provider's identifiers, never free text."""
    return stop_reason if stop_reason.isidentifier() and len(stop_reason) <= 40 else "unknown stop reason"

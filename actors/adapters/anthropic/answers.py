"""Reader of answers of Anthropic's Messages API: the text, the verdict and the usage, from the bytes that came.

The SDK's own models take whatever arrives without checking it, so that a wrong type would surface anywhere later. Here
an answer that does not fit the schema is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ...domain.llm.half_characters import decoded
from ...domain.llm.reported_usage import NO_HEADERS, ReportedUsage, whole_report
from ...domain.llm.token_estimate import estimated_tokens
from ...domain.llm.usage import Counts, counts_of, output_of, usage_of
from ...domain.pricing import Usage
from ...ports import Completion, Evaluation, TransientError
from ..upstream.verdicts import completion_of, verdict_of


class _Block(msgspec.Struct):
    """Content block. Thinking, and kinds that don't exist yet, come beside text and are passed over."""

    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    type: Literal["message"]
    content: list[_Block]
    stop_reason: str
    # Read apart from the rest: an answer with unreadable usage is still an answer.
    usage: msgspec.Raw = msgspec.Raw(b"null")


_messages: Final = msgspec.json.Decoder(_Message)


class _Listed(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Listed]


def listed_models(body: bytes) -> list[str] | None:
    """Return the names in a list of models, in either API's shape; None for another answer."""
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except (ValueError, RecursionError):
        return None


def read_evaluation(body: bytes, model: str, headers: Mapping[str, str] = NO_HEADERS) -> Evaluation:
    """Return the verdict in an answer. Raises `TransientError` as `verdict_of` does."""
    message = _message(body)
    text = _text(message)
    judged, counts = verdict_of(text, message.stop_reason), counts_of(message.usage)
    return Evaluation(judged, model, _usage(counts, text, model), whole_report(message.usage, counts, headers))


def read_completion(body: bytes, model: str, headers: Mapping[str, str] = NO_HEADERS) -> Completion:
    """Return the work in an answer. `model` is the requested model, which is the one that has a price.

    `headers` are the provider's, with its id of the call.

    Raises `PermanentError` for a refusal and for an answer whose tokens ran out before its first word, both of which a
    repetition would only pay for again; `TransientError` for an unreadable or empty one.
    """
    message = _message(body)
    text = _text(message)
    counts = counts_of(message.usage)
    usage, reported = _usage(counts, text, model), whole_report(message.usage, counts, headers)
    return completion_of(text, model, usage, message.stop_reason, reported)


def read_usage(raw: bytes | msgspec.Raw, text: str, model: str) -> Usage | None:
    """Return the tokens of a "usage" object, beside the text that was answered.

    None when the prompt's tokens can't be read.
    """
    return _usage(counts_of(raw), text, model)


def _usage(counts: Counts, text: str, model: str) -> Usage | None:
    return usage_of(counts, output_of(counts) or estimated_tokens(text, model))


def reported_of(usage: bytes | msgspec.Raw, headers: Mapping[str, str]) -> ReportedUsage:
    """Return the provider's report of a whole answer, from its "usage" object."""
    return whole_report(usage, counts_of(usage), headers)


def _message(body: bytes) -> _Message:
    try:
        return decoded(_messages.decode, body)
    except (ValueError, RecursionError):
        # The decoder's own error may quote the answer, and with it the request.
        raise TransientError("the model provider's answer is unreadable") from None


def _text(message: _Message) -> str:
    parts = [block.text for block in message.content if block.type == "text"]
    if None in parts:
        raise TransientError("a text block of the model provider's answer has no text")
    return "".join(part for part in parts if part is not None)

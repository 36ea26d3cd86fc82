"""Reader of answers of Anthropic's Messages API: the text, the verdict and the usage, from the bytes that came.

The SDK's own models take whatever arrives without checking it, so that a wrong type would surface anywhere later. Here
an answer that does not fit the schema is refused at once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ...domain.llm.reported_usage import ReportedUsage, UsageReporter
from ...domain.llm.token_estimate import estimated_tokens
from ...domain.llm.usage import counts_of, output_of, usage_of
from ...domain.pricing import Size, Usage
from ...ports import Completion, Evaluation, PermanentError, RefusedRequestError, TransientError, Verdict

NO_HEADERS: Final[Mapping[str, str]] = {}
_REASON_MAX_CHARS: Final = 300


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


class _VerdictText(msgspec.Struct, forbid_unknown_fields=True):
    reason: str
    decision: Literal["accept", "reject"]
    size: Size


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
    """Return the verdict in an answer. Raises `TransientError` for an answer that is not exactly one verdict.

    A refusal and an answer that was cut off are not verdicts either: only the judge's own word may accept.
    """
    message = _message(body)
    if message.stop_reason != "end_turn":
        raise TransientError(f"the evaluation ended without a verdict: {_word(message.stop_reason)}")
    try:
        text = _text(message)
        found = msgspec.json.decode(text, type=_VerdictText)
    except (ValueError, RecursionError):
        raise TransientError("the evaluation's verdict is unreadable") from None
    reason = _clean(found.reason)
    if not reason:
        raise TransientError("the evaluation's verdict has no reason")
    found_usage = read_usage(message.usage, text, model)
    judged = Verdict(found.decision == "accept", reason, found.size)
    return Evaluation(judged, model, found_usage, reported_of(message.usage, headers))


def read_completion(body: bytes, model: str, headers: Mapping[str, str] = NO_HEADERS) -> Completion:
    """Return the work in an answer. `model` is the requested model, which is the one that has a price.

    `headers` are the provider's, with its id of the call.

    Raises `PermanentError` for a refusal and for an answer whose tokens ran out before its first word, both of which a
    repetition would only pay for again; `TransientError` for an unreadable or empty one.
    """
    message = _message(body)
    text = _text(message)
    usage, reported = read_usage(message.usage, text, model), reported_of(message.usage, headers)
    return completion_of(text, model, usage, message.stop_reason, reported)


def completion_of(
    text: str, model: str, usage: Usage | None, stop_reason: str, reported: ReportedUsage | None = None
) -> Completion:
    """Return the work, if there is any text. Raises as `read_completion` for a refusal and an empty answer.

    Text that was written before a refusal is billed by the provider, and is an answer; a refusal alone is neither.
    """
    if not text.strip():
        if stop_reason == "refusal":
            raise RefusedRequestError("the model refused the request")
        if stop_reason == "max_tokens":
            raise PermanentError("the model used all its tokens before the first word of an answer")
        raise TransientError(f"the model's answer is empty: {_word(stop_reason)}")
    return Completion(text, model, usage, stop_reason, reported)


def read_usage(raw: bytes | msgspec.Raw, text: str, model: str) -> Usage | None:
    """Return the tokens of a "usage" object, beside the text that was answered.

    None when the prompt's tokens can't be read.
    """
    counts = counts_of(raw)
    return usage_of(counts, output_of(counts) or estimated_tokens(text, model))


def reported_of(usage: bytes | msgspec.Raw, headers: Mapping[str, str]) -> ReportedUsage:
    """Return the provider's report of a whole answer, from its "usage" object."""
    reporter = UsageReporter(headers)
    reporter.go_on(usage)
    return reporter.report(final=bool(output_of(counts_of(usage))))


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
    """Return one line of at most 300 characters without control, direction or unassigned characters.

    The line is shown to people.
    """
    if not reason.isprintable():
        reason = "".join(" " if unicodedata.category(char).startswith(("C", "Z")) else char for char in reason)
    line = " ".join(reason.split())
    return line if len(line) <= _REASON_MAX_CHARS else line[: _REASON_MAX_CHARS - 1].rstrip() + "…"


def _word(stop_reason: str) -> str:
    """Return a stop reason that is fit for a log: the provider's identifiers, never free text."""
    return stop_reason if stop_reason.isidentifier() and len(stop_reason) <= 40 else "unknown stop reason"

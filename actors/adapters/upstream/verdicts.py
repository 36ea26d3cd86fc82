"""Reading of the texts of our own calls: the verdict of an evaluation, and the work. Alike in both APIs."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Literal

import msgspec

from ...domain.llm.answers import StreamPart
from ...domain.llm.reported_usage import ReportedUsage
from ...domain.pricing import Size, Usage
from ...ports import Completion, PermanentError, RefusedRequestError, TransientError, Verdict

_REASON_MAX_CHARS: Final = 300


class _VerdictText(msgspec.Struct, forbid_unknown_fields=True):
    reason: str
    decision: Literal["accept", "reject"]
    size: Size


def verdict_of(text: str, stop_reason: str) -> Verdict:
    """Return the verdict in an answer's text. Raises `TransientError` for a text that is not exactly one verdict.

    A refusal and an answer that was cut off are not verdicts either: only the judge's own word may accept.
    """
    if stop_reason != "end_turn":
        raise TransientError(f"the evaluation ended without a verdict: {_word(stop_reason)}")
    try:
        found = msgspec.json.decode(text, type=_VerdictText)
    except (ValueError, RecursionError):
        raise TransientError("the evaluation's verdict is unreadable") from None
    reason = _clean(found.reason)
    if not reason:
        raise TransientError("the evaluation's verdict has no reason")
    return Verdict(found.decision == "accept", reason, found.size)


def completion_of(
    text: str, model: str, usage: Usage | None, stop_reason: str, reported: ReportedUsage | None = None
) -> Completion:
    """Return the work, if there is any text. `stop_reason` is that of the Messages API.

    Raises `PermanentError` for a refusal and for an answer whose tokens ran out before its first word, both of which a
    repetition would only pay for again; `TransientError` for an empty one. Text that was written before a refusal is
    billed by the provider, and is an answer; a refusal alone is neither.
    """
    if not text.strip():
        if stop_reason == "refusal":
            raise RefusedRequestError("the model refused the request")
        if stop_reason == "max_tokens":
            raise PermanentError("the model used all its tokens before the first word of an answer")
        raise TransientError(f"the model's answer is empty: {_word(stop_reason)}")
    return Completion(text, model, usage, stop_reason, reported)


async def completion_in(parts: AsyncGenerator[StreamPart, None]) -> Completion:
    """Return the work at the end of its parts, and close them. Raises `PortError`.

    Work is always asked for piece by piece: so a provider that writes for minutes can be told from a silent one, and
    servers that run a plain call to its end after we hung up also stop a streamed one.
    """
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Completion):
                return part
    raise TransientError("the model's answer has no end")


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

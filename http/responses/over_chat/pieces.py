"""Pieces of a chat completion as the output items of a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ....actors.domain.llm.usage import tokens
from ....actors.domain.pricing import Usage
from ...translation.answer_ids import bare_id
from ...translation.message import Tokens
from ...upstreams.chat_answer import CallNumbers, CallPiece, Piece
from ..output import Item, Output
from ..thoughts import ChatThought, sealed

Json = dict[str, Any]
# Why an answer is incomplete; OpenAI's words, and those of Mistral's servers. Other reasons complete it.
_INCOMPLETE: Final[Mapping[str, str]] = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "model_length": "max_output_tokens",
    "content_filter": "content_filter",
}


def incomplete_reason(finish_reason: str | None) -> str | None:
    """Return why an answer is incomplete; None if it is complete."""
    return _INCOMPLETE.get(finish_reason or "")


class Pieces:
    """The pieces of one answer, or all of it as one. Each call returns the events that it causes, without numbers."""

    def __init__(self, output: Output, answer_id: str, model: str) -> None:
        self._output = output
        self._id = answer_id
        self._model = model
        self._kind = ""
        self._numbers = CallNumbers()
        self._calls: dict[int, Item] = {}

    def take(self, piece: Piece) -> Iterator[Json]:
        """Take a piece."""
        if piece.thought:
            if self._begins("thought"):
                field = piece.thought_field
                yield from self._output.think(lambda text: sealed(ChatThought(text, field, self._model)))
            yield from self._output.more(piece.thought)
        if piece.text:
            if self._begins("text"):
                yield from self._output.say()
            yield from self._output.more(piece.text)
        if piece.refusal:
            if self._begins("refusal"):
                yield from self._output.say("refusal")
            yield from self._output.more(piece.refusal)
        for call in piece.calls:
            yield from self._call(call)

    def end(self, finish_reason: str | None) -> Iterator[Json]:
        """Take the end of the answer."""
        yield from self._output.end(complete=incomplete_reason(finish_reason) is None)

    def _call(self, call: CallPiece) -> Iterator[Json]:
        number, begins = self._numbers.of(call)
        if begins:
            self._kind = "call"
            # A call without an id could not be answered.
            yield from self._output.call(call.id or f"call_{self._id}_{number}", call.name)
            self._calls[number] = self._output.latest
        yield from self._output.more(call.arguments, self._calls[number])

    def _begins(self, kind: str) -> bool:
        begins, self._kind = self._kind != kind, kind
        return begins


def answer_id(completion_id: str, created_s: int) -> str:
    """Derive the id of a response and its items. Some servers' own ids are random numbers up to 999: a time helps."""
    return f"{bare_id(completion_id)}_{created_s:x}".lstrip("_")


def tokens_of(usage: Usage | None, counts: Mapping[str, Any] | None) -> Tokens:
    """Return the tokens that the upstream counted; 0 where it did not. `counts` has those of thoughts."""
    if usage is None:
        return Tokens(0, 0, 0, 0, 0)
    details = (counts or {}).get("completion_tokens_details")
    thoughts = details.get("reasoning_tokens") if isinstance(details, dict) else None
    written = usage.cache_write_tokens
    return Tokens(
        prompt=usage.input_tokens + usage.cache_read_tokens + written,
        read=usage.cache_read_tokens,
        written=written,
        output=usage.output_tokens,
        thoughts=tokens(thoughts) or 0,
    )

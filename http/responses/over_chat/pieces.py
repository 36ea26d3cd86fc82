"""Pieces of a chat completion as the output items of a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ....actors.domain.llm.usage import tokens
from ....actors.domain.pricing import Usage
from ...translation.answer_ids import bare_id
from ...translation.message import Tokens
from ...upstreams.chat_answer import CallNumbers, CallPiece, Piece, ThoughtField
from ...upstreams.reasoning_details import ReasoningDetails
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
        self._ids: dict[int, str] = {}
        self._details = ReasoningDetails()
        # What the calls are signed with to which the last thought led, and what came too late for it.
        self._signed: dict[str, Json] = {}
        self._late: dict[str, Json] = {}

    def take(self, piece: Piece) -> Iterator[Json]:
        """Take a piece."""
        self._details.add(piece.details)
        if piece.thought:
            yield from self._think(piece.thought_field)
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
        if self._calls and (self._details or self._late):
            yield from self._think()
            self._signed |= self._late
        yield from self._output.end(complete=incomplete_reason(finish_reason) is None)

    def _call(self, call: CallPiece) -> Iterator[Json]:
        number, begins = self._numbers.of(call)
        if begins:
            # A call without an id could not be answered.
            self._ids[number] = call.id or f"call_{self._id}_{number}"
            if call.signed or self._details:
                yield from self._think()
                self._signed |= self._of(number, call)
            self._kind = "call"
            yield from self._output.call(self._ids[number], call.name)
            self._calls[number] = self._output.latest
        else:
            self._late |= self._of(number, call)
        yield from self._output.more(call.arguments, self._calls[number])

    def _of(self, number: int, call: CallPiece) -> dict[str, Json]:
        """Return what a call is signed with, by its id."""
        return {self._ids[number]: dict(call.signed)} if call.signed else {}

    def _think(self, field: ThoughtField = "") -> Iterator[Json]:
        """Begin a thought, unless one is arriving. It keeps what the upstream signed, which wants it back."""
        if not self._begins("thought"):
            return
        signed: dict[str, Json] = {}
        self._signed = signed

        def seal(text: str) -> str:
            details = self._details.taken()
            return sealed(ChatThought("" if details else text, field, self._model, details, signed))

        yield from self._output.think(seal)

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

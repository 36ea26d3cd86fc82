"""Blocks of a Messages API answer as the output items of a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..translation.message import Block, Piece, StopDetails, refusal
from .output import Output
from .thoughts import RedactedThinking, Thinking, sealed

Json = dict[str, Any]
# Why an answer is incomplete. Other reasons complete it.
_INCOMPLETE: Final[Mapping[str, str]] = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}
_MORE: Final[Mapping[str, str]] = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "tool_use",
    "signature_delta": "thinking",
}


def incomplete_reason(stop_reason: str | None) -> str | None:
    """Return why an answer is incomplete; None if it is complete."""
    return _INCOMPLETE.get(stop_reason or "")


class Blocks:
    """The blocks of one answer. Each call returns the events that it causes, without their numbers."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._kind = ""
        self._seal = _Seal(Block(""))

    def begin(self, block: Block) -> Iterator[Json]:
        """Take the beginning of a block, which may be all of it."""
        self._kind = block.type
        if block.type == "text":
            yield from self._output.say()
            yield from self._output.more(block.text or "")
        elif block.type in ("thinking", "redacted_thinking"):
            self._seal = _Seal(block)
            yield from self._output.think(self._seal)
            yield from self._output.more(block.thinking or "")
        elif block.type == "tool_use":
            yield from self._output.call(block.id, block.name, bytes(block.input).decode(errors="replace"))
        else:
            yield from self._output.end(complete=True)

    def go_on(self, piece: Piece) -> Iterator[Json]:
        """Take more of the block."""
        if _MORE.get(piece.type) != self._kind:
            return
        if piece.type == "signature_delta":
            self._seal.sign(piece.signature or "")
        else:
            yield from self._output.more(piece.text or piece.thinking or piece.partial_json or "")

    def stop(self) -> Iterator[Json]:
        """Take the end of the block."""
        yield from self._output.stop()

    def end(self, stop_reason: str | None, details: StopDetails | None) -> Iterator[Json]:
        """Take the end of the answer."""
        yield from self._output.end(complete=incomplete_reason(stop_reason) is None)
        declined = refusal(stop_reason, details)
        if declined is not None:
            yield from self._output.say("refusal")
            yield from self._output.more(declined)
            yield from self._output.end(complete=True)


class _Seal:
    """The signature of a thought, which may come in pieces."""

    def __init__(self, block: Block) -> None:
        self._redacted = block.data if block.type == "redacted_thinking" else None
        self._signature = block.signature or ""

    def sign(self, signature: str) -> None:
        self._signature += signature

    def __call__(self, text: str) -> str:
        return sealed(Thinking(text, self._signature) if self._redacted is None else RedactedThinking(self._redacted))

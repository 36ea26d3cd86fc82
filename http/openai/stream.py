"""Translation of a streamed Messages API answer to chat completion chunks, however its bytes are cut.

The translator keeps a few counts, never the answer. It forwards each event once its line is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.usage import StreamCounts, counts_of
from ..translation.message import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    Change,
    Event,
    EventReader,
    MessageDelta,
    MessageStart,
    MessageStop,
    Piece,
    refusal,
)
from .answer import completion_id, finish_reason, tool_call, usage

DONE: Final = b"data: [DONE]\n\n"


class _Call:
    """A call whose arguments are arriving. `whole` is the input in the block's start, for a call without pieces."""

    def __init__(self, number: int, whole: str) -> None:
        self.number = number
        self.whole = whole
        self.pieces = False


class ChatStream:
    """The chunks of one answer. `created_s` is in seconds since the epoch.

    `ended` is set when the answer is complete; its last chunks wait for its cost. The provider's error event does not
    set it: the route that reads the stream reports the failure, as it knows the charge for the text before it.
    """

    def __init__(self, model: str, created_s: int, *, include_usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": completion_id(""),
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": model,
        }
        self._include_usage = include_usage
        self._reader = EventReader()
        self._calls: dict[int, _Call] = {}
        self._calls_begun = 0
        self._counted = StreamCounts()
        self._last = Change()
        self.ended = False

    def read(self, chunk: bytes) -> bytes:
        """Return the chunks for this piece of the provider's stream."""
        return b"".join(
            data(shown) for event in self._reader.read(chunk) if not self.ended for shown in self._take(event)
        )

    def end(self, cost: Mapping[str, int | str]) -> bytes:
        """Return the last chunks, with the cost in the usage.

        An answer without an end is one whose client hung up: its repeated request gets the answer up to that point.
        """
        if not self.ended:
            self.ended = True
            self._last = Change("max_tokens")
        return b"".join(map(data, self._end(cost)))

    def _take(self, event: Event) -> Iterator[dict[str, Any]]:
        match event:
            case MessageStart(message=begun):
                self._head["id"], self._head["model"] = completion_id(begun.id), begun.model or self._head["model"]
                self._counted.begin(counts_of(begun.usage))
                yield self._chunk({"role": "assistant", "content": ""})
            case BlockStart(index=index, content_block=block):
                yield from self._begin(index, block)
            case BlockDelta(index=index, delta=piece):
                yield from self._go_on(index, piece)
            case BlockStop(index=index):
                yield from self._finish_call(index)
            case MessageDelta(delta=change, usage=counted):
                self._last = change
                self._counted.go_on(counts_of(counted))
            case MessageStop():
                self.ended = True

    def _begin(self, index: int, block: Block) -> Iterator[dict[str, Any]]:
        if block.type == "text" and block.text:
            yield self._chunk({"content": block.text})
        elif block.type == "tool_use":
            call = self._calls[index] = _Call(self._calls_begun, bytes(block.input).decode(errors="replace"))
            self._calls_begun += 1
            yield self._called({"index": call.number, **tool_call(block.id, block.name, "")})

    def _go_on(self, index: int, piece: Piece) -> Iterator[dict[str, Any]]:
        if piece.type == "text_delta" and piece.text:
            yield self._chunk({"content": piece.text})
        elif piece.type == "input_json_delta" and piece.partial_json and index in self._calls:
            self._calls[index].pieces = True
            yield self._argued(self._calls[index].number, piece.partial_json)

    def _finish_call(self, index: int) -> Iterator[dict[str, Any]]:
        call = self._calls.pop(index, None)
        if call is not None and not call.pieces:
            yield self._argued(call.number, call.whole)

    def _end(self, cost: Mapping[str, int | str]) -> Iterator[dict[str, Any]]:
        declined = refusal(self._last.stop_reason, self._last.stop_details)
        if declined is not None:
            yield self._chunk({"refusal": declined})
        yield self._chunk({}, finish_reason(self._last.stop_reason))
        if self._include_usage:
            yield {**self._head, "choices": [], "usage": {**usage(self._counted.counts), **cost}}

    def _called(self, call: dict[str, Any]) -> dict[str, Any]:
        return self._chunk({"tool_calls": [call]})

    def _argued(self, number: int, piece: str) -> dict[str, Any]:
        return self._called({"index": number, "function": {"arguments": piece}})

    def _chunk(self, delta: dict[str, Any], finished: str | None = None) -> dict[str, Any]:
        shown = {
            **self._head,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finished}],
        }
        return {**shown, "usage": None} if self._include_usage else shown


def data(value: Any) -> bytes:
    """Encode one event of OpenAI's streams, whose events have no names."""
    return b"data: %b\n\n" % msgspec.json.encode(value)

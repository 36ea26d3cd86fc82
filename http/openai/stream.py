"""Translation of a streamed Messages API answer to chat completion chunks, however its bytes are cut.

The translator keeps one unfinished line and a few counts, never the answer. It forwards each event once its line is
complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ...actors.domain.llm.usage import StreamCounts, counts_of
from .answer import StopDetails, completion_id, finish_reason, refusal, tool_call, usage

# Without a limit, an endless line would fill the memory. The provider's own reader has this limit, too.
_LINE_MAX_BYTES: Final = 4 << 20
DONE: Final = b"data: [DONE]\n\n"


class _Kind(msgspec.Struct):
    type: str


class _Begun(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _MessageStart(msgspec.Struct, tag="message_start"):
    message: _Begun


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _BlockStart(msgspec.Struct, tag="content_block_start"):
    index: int
    content_block: _Block


class _Piece(msgspec.Struct):
    type: str
    text: str = ""
    partial_json: str = ""


class _BlockDelta(msgspec.Struct, tag="content_block_delta"):
    index: int
    delta: _Piece


class _BlockStop(msgspec.Struct, tag="content_block_stop"):
    index: int


class _Change(msgspec.Struct):
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class _MessageDelta(msgspec.Struct, tag="message_delta"):
    delta: _Change
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _MessageStop(msgspec.Struct, tag="message_stop"):
    pass


_Event = _MessageStart | _BlockStart | _BlockDelta | _BlockStop | _MessageDelta | _MessageStop
_KNOWN: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
_kinds: Final = msgspec.json.Decoder(_Kind)
_events: Final[msgspec.json.Decoder[_Event]] = msgspec.json.Decoder(_Event)


class _Call:
    """A call whose arguments are arriving. `whole` is the input in the block's start, for a call without pieces."""

    def __init__(self, number: int, whole: str) -> None:
        self.number = number
        self.whole = whole
        self.pieces = False


class ChatStream:
    """The chunks of one answer. `created_s` is in seconds since the epoch.

    `ended` is set when the answer is complete. The provider's error event does not set it: the route that reads the
    stream reports the failure, as it knows the charge for the text before it.
    """

    def __init__(self, model: str, created_s: int, *, include_usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": completion_id(""),
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": model,
        }
        self._include_usage = include_usage
        self._line = b""
        self._calls: dict[int, _Call] = {}
        self._calls_begun = 0
        self._counted = StreamCounts()
        self._last = _Change()
        self.ended = False

    def read(self, chunk: bytes) -> bytes:
        """Return the chunks for this piece of the provider's stream. Unreadable lines are skipped."""
        *lines, self._line = (self._line + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(self._line) > _LINE_MAX_BYTES:
            self._line = b""
        return b"".join(
            data(shown) for line in lines if line.startswith(b"data:") for shown in self._take(line[len(b"data:") :])
        )

    def cut_off(self) -> bytes:
        """Return the end of an answer whose client hung up: its repeated request gets the answer up to that point."""
        self.ended = True
        self._last = _Change("max_tokens")
        return b"".join(map(data, self._end()))

    def _take(self, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            if self.ended or _kinds.decode(line).type not in _KNOWN:
                return
            event = _events.decode(line)
        except (ValueError, RecursionError):
            return
        match event:
            case _MessageStart(message=begun):
                self._head["id"], self._head["model"] = completion_id(begun.id), begun.model or self._head["model"]
                self._counted.begin(counts_of(begun.usage))
                yield self._chunk({"role": "assistant", "content": ""})
            case _BlockStart(index=index, content_block=block):
                yield from self._begin(index, block)
            case _BlockDelta(index=index, delta=piece):
                yield from self._go_on(index, piece)
            case _BlockStop(index=index):
                yield from self._finish_call(index)
            case _MessageDelta(delta=change, usage=counted):
                self._last = change
                self._counted.go_on(counts_of(counted))
            case _MessageStop():
                self.ended = True
                yield from self._end()

    def _begin(self, index: int, block: _Block) -> Iterator[dict[str, Any]]:
        if block.type == "text" and block.text:
            yield self._chunk({"content": block.text})
        elif block.type == "tool_use":
            call = self._calls[index] = _Call(self._calls_begun, bytes(block.input).decode())
            self._calls_begun += 1
            yield self._called({"index": call.number, **tool_call(block.id, block.name, "")})

    def _go_on(self, index: int, piece: _Piece) -> Iterator[dict[str, Any]]:
        if piece.type == "text_delta" and piece.text:
            yield self._chunk({"content": piece.text})
        elif piece.type == "input_json_delta" and piece.partial_json and index in self._calls:
            self._calls[index].pieces = True
            yield self._argued(self._calls[index].number, piece.partial_json)

    def _finish_call(self, index: int) -> Iterator[dict[str, Any]]:
        call = self._calls.pop(index, None)
        if call is not None and not call.pieces:
            yield self._argued(call.number, call.whole)

    def _end(self) -> Iterator[dict[str, Any]]:
        declined = refusal(self._last.stop_reason, self._last.stop_details)
        if declined is not None:
            yield self._chunk({"refusal": declined})
        yield self._chunk({}, finish_reason(self._last.stop_reason))
        if self._include_usage:
            yield {**self._head, "choices": [], "usage": usage(self._counted.counts)}

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

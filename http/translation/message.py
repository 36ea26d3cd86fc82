"""Answers of the Messages API, as the translations read them: whole, or as the events of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ...actors.domain.llm.half_characters import decoded
from ...actors.domain.llm.usage import Counts, tokens, usage_of
from ..upstreams.provider_call import UnreadableAnswerError

_NO_EXPLANATION: Final = "The model declined to answer this."
# Without a limit, an endless line would fill the memory. The provider's own reader has this limit, too.
_LINE_MAX_BYTES: Final = 4 << 20


class StopDetails(msgspec.Struct, frozen=True):
    """The reason why the model declined, if it gives one."""

    explanation: str | None = None


class Block(msgspec.Struct, frozen=True):
    """A block of an answer, or the beginning of one. `input` is that of a call, `data` that of a redacted thought."""

    type: str
    text: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class Message(msgspec.Struct, frozen=True):
    """A whole answer."""

    id: str
    model: str
    content: list[Block]
    stop_reason: str | None
    stop_details: StopDetails | None
    usage: msgspec.Raw


class _LooseBlock(msgspec.Struct, frozen=True):
    type: str
    text: Any = None
    id: Any = None
    name: Any = None
    input: msgspec.Raw = msgspec.Raw(b"{}")
    thinking: Any = None
    signature: Any = None
    data: Any = None


class _LooseMessage(msgspec.Struct, frozen=True):
    """A message, of which only the blocks are certain: what has blocks is charged, and so must be delivered."""

    content: list[_LooseBlock]
    id: Any = None
    model: Any = None
    stop_reason: Any = None
    stop_details: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")


def message_of(body: bytes) -> Message:
    """Return the answer in a body. Raises `UnreadableAnswerError`."""
    try:
        found = msgspec.json.decode(body, type=_LooseMessage)
    except (ValueError, RecursionError):
        raise UnreadableAnswerError from None
    blocks = [
        Block(
            type=block.type,
            text=_text(block.text),
            id=_text(block.id),
            name=_text(block.name),
            input=block.input,
            thinking=_text(block.thinking),
            signature=_text(block.signature),
            data=_text(block.data),
        )
        for block in found.content
    ]
    reason, details = _text(found.stop_reason), _details(found.stop_details)
    return Message(_text(found.id), _text(found.model), blocks, reason, details, found.usage)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _details(raw: msgspec.Raw) -> StopDetails | None:
    try:
        return msgspec.json.decode(raw, type=StopDetails | None)
    except ValueError:
        return None


def refusal(stop_reason: str | None, details: StopDetails | None) -> str | None:
    """Return the sentence with which the model declined; None if it didn't."""
    if stop_reason != "refusal":
        return None
    return (details.explanation if details is not None else None) or _NO_EXPLANATION


class Tokens(NamedTuple):
    """The tokens of an answer, where `prompt` includes cache reads and writes, and `output` includes thoughts."""

    prompt: int
    read: int
    written: int
    output: int
    thoughts: int


def tokens_of(counted: Counts) -> Tokens:
    """Return the tokens in a "usage" object; 0 for what can't be read."""
    found = usage_of(counted, 0)
    read = found.cache_read_tokens if found else _count(counted, "cache_read_input_tokens")
    written = found.cache_write_tokens if found else _count(counted, "cache_creation_input_tokens")
    details = counted.get("output_tokens_details")
    return Tokens(
        prompt=_count(counted, "input_tokens") + read + written,
        read=read,
        written=written,
        output=_count(counted, "output_tokens"),
        thoughts=_count(details, "thinking_tokens") if isinstance(details, dict) else 0,
    )


def _count(counted: Counts, name: str) -> int:
    return tokens(counted.get(name)) or 0


# Events of a stream


class _Kind(msgspec.Struct):
    type: str


class Begun(msgspec.Struct):
    """The message that begins."""

    id: str = ""
    model: str = ""
    usage: msgspec.Raw = msgspec.Raw(b"null")


class MessageStart(msgspec.Struct, tag="message_start"):
    """The beginning of an answer, with the first count."""

    message: Begun


class BlockStart(msgspec.Struct, tag="content_block_start"):
    """The beginning of a block."""

    index: int
    content_block: Block


class Piece(msgspec.Struct):
    """More of a block."""

    type: str
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None


class BlockDelta(msgspec.Struct, tag="content_block_delta"):
    """More of a block."""

    index: int
    delta: Piece


class BlockStop(msgspec.Struct, tag="content_block_stop"):
    """The end of a block."""

    index: int


class Change(msgspec.Struct):
    """Why the answer ended."""

    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class MessageDelta(msgspec.Struct, tag="message_delta"):
    """Why the answer ended, with the last count."""

    delta: Change
    usage: msgspec.Raw = msgspec.Raw(b"null")


class MessageStop(msgspec.Struct, tag="message_stop"):
    """The end of an answer."""


Event = MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
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
_events: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)


class EventReader:
    """Reader of a stream's events, however its bytes are cut. It keeps one unfinished line."""

    def __init__(self) -> None:
        self._line = b""

    def read(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events whose lines are complete. Unreadable lines, and unknown events, are skipped."""
        *lines, self._line = (self._line + chunk).replace(b"\r", b"\n").split(b"\n")
        if len(self._line) > _LINE_MAX_BYTES:
            self._line = b""
        for line in lines:
            if line.startswith(b"data:") and (event := _event(line[len(b"data:") :])) is not None:
                yield event


def _known_event(line: bytes) -> Event | None:
    return _events.decode(line) if _kinds.decode(line).type in _KNOWN else None


def _event(line: bytes) -> Event | None:
    try:
        return decoded(_known_event, line)
    except (ValueError, RecursionError):
        return None

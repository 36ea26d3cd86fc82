"""Reader of a streamed answer of Anthropic's Messages API, from its bytes, however they are cut.

Each event of the API is one line of JSON behind `data:`, so an event is read as soon as that line is whole; the other
lines of the server-sent events only repeat what stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from ...domain.llm.answers import StreamPart, TextDelta, UsageSoFar
from ...domain.llm.half_characters import decoded
from ...domain.llm.reported_usage import NO_HEADERS, UsageReporter
from ...domain.llm.token_estimate import estimated_tokens
from ...domain.llm.usage import StreamCounts, counts_of
from ...domain.provider_faults import ModelFault
from ...ports import Completion, ModelError, PermanentError, PortError, TransientError
from ..upstream.verdicts import completion_of

# The longest events are a few kilobytes. Without a limit a line without an end would fill the memory.
_LINE_MAX_BYTES: Final = 1 << 20
# Errors by which the provider refuses for good. All others, and kinds that are new by then, may pass.
_PERMANENT_ERRORS: Final = frozenset({"invalid_request_error", "not_found_error", "request_too_large"})
_FAULTS: Final[Mapping[str, ModelFault]] = {
    "overloaded_error": ModelFault.OVERLOADED,
    "rate_limit_error": ModelFault.LIMITED,
    "authentication_error": ModelFault.REFUSED,
    "billing_error": ModelFault.REFUSED,
    "permission_error": ModelFault.REFUSED,
}


class _Kind(msgspec.Struct):
    type: str


class _Begun(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _MessageStart(msgspec.Struct, tag="message_start"):
    message: _Begun


class _Part(msgspec.Struct):
    """Content block or a piece of one. In kinds that are passed over, `text` may be anything."""

    type: str
    text: Any = None


class _BlockStart(msgspec.Struct, tag="content_block_start"):
    index: int
    content_block: _Part


class _BlockDelta(msgspec.Struct, tag="content_block_delta"):
    index: int
    delta: _Part


class _BlockStop(msgspec.Struct, tag="content_block_stop"):
    pass


class _Change(msgspec.Struct):
    stop_reason: str | None = None


class _MessageDelta(msgspec.Struct, tag="message_delta"):
    delta: _Change
    usage: msgspec.Raw = msgspec.Raw(b"null")


class _MessageStop(msgspec.Struct, tag="message_stop"):
    pass


class _Error(msgspec.Struct, tag="error"):
    error: _Kind


_Event = _MessageStart | _BlockStart | _BlockDelta | _BlockStop | _MessageDelta | _MessageStop | _Error

_KNOWN: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    }
)
_kinds: Final = msgspec.json.Decoder(_Kind)
_events: Final[msgspec.json.Decoder[_Event]] = msgspec.json.Decoder(_Event)

T = TypeVar("T")


class StreamedAnswer:
    """State of one streamed answer. `model` is the requested model, which is the one that has a price.

    `headers` are the provider's, with its id of the call.
    Errors never quote the answer.
    """

    def __init__(self, model: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self._model = model
        self._reporter = UsageReporter(headers)
        self._line = b""
        self._pieces: list[str] = []
        self._other_blocks: set[int] = set()
        self._counted = StreamCounts()
        self._stop_reason: str | None = None
        self.ended = False

    def read(self, chunk: bytes | None) -> Iterator[StreamPart]:
        """Yield the parts that this chunk makes whole; None says that there are no more bytes.

        Raises `TransientError` for an end before its time, an unreadable event and a provider's error that may pass;
        `PermanentError` for one that does not.
        """
        if chunk is None:
            raise ModelError("the model provider's answer ended before its end", ModelFault.FAILING)
        # Line breaks are LF, CR or both; JSON has none of its own, and an empty line more does not matter here.
        *lines, self._line = (self._line + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and not self.ended:
                yield from self._take(line[len(b"data:") :])
        if len(self._line) > _LINE_MAX_BYTES:
            raise TransientError("the model provider's answer is unreadable: an event without an end")

    def completion(self) -> Completion:
        """Return the whole answer, once it has `ended`. Raises what `read_completion` raises."""
        if self._stop_reason is None:
            raise TransientError("the model provider's answer has no reason for its end")
        text = "".join(self._pieces)
        given_tokens = 0 if self._counted.final else estimated_tokens(text, self._model)
        usage, reported = self._counted.usage(given_tokens), self._reporter.report(final=self._counted.final)
        return completion_of(text, self._model, usage, self._stop_reason, reported)

    def _take(self, data: bytes) -> Iterator[StreamPart]:
        if _decoded(_kinds, data).type not in _KNOWN:
            return
        match _decoded(_events, data):
            case _MessageStart(message=begun):
                self._counted.begin(counts_of(begun.usage))
                self._reporter.begin(begun.usage)
                yield from self._used()
            case _BlockStart(index=index, content_block=block):
                if block.type == "text":
                    yield from self._text(block)
                else:
                    self._other_blocks.add(index)
            case _BlockDelta(index=index, delta=delta):
                if delta.type == "text_delta" and index not in self._other_blocks:
                    yield from self._text(delta)
            case _BlockStop():
                yield from self._used(pauses=True)
            case _MessageDelta(delta=change, usage=counted):
                self._stop_reason = change.stop_reason or self._stop_reason
                self._counted.go_on(counts_of(counted))
                self._reporter.go_on(counted)
                yield from self._used()
            case _MessageStop():
                self.ended = True
            case _Error(error=error):
                raise stream_error(error.type)

    def _used(self, *, pauses: bool = False) -> Iterator[StreamPart]:
        usage = self._counted.usage(0)
        if usage is not None:
            yield UsageSoFar(usage, self._counted.final, pauses, self._reporter.report(final=self._counted.final))

    def _text(self, part: _Part) -> Iterator[StreamPart]:
        if not isinstance(part.text, str):
            raise TransientError("a text block of the model provider's answer has no text")
        if part.text:
            self._counted.given()
            self._pieces.append(part.text)
            yield TextDelta(part.text)


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    try:
        return decoded(decoder.decode, data)
    except (ValueError, RecursionError):
        # The decoder's own error may quote the answer, and with it the request.
        raise TransientError("the model provider's answer is unreadable") from None


def stream_error(kind: str) -> PortError:
    """Return the error of an `error` event, by its kind."""
    told = f"the model provider broke off its answer: {kind if re.fullmatch(r'[a-z_]{1,40}', kind) else 'unknown'}"
    if kind in _PERMANENT_ERRORS:
        return PermanentError(told)
    return ModelError(told, _FAULTS.get(kind, ModelFault.FAILING))

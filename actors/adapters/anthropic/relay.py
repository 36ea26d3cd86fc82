"""Usage of a relayed answer of the Messages API, read beside the bytes that go on as they came.

Figures that can't be read here are passed over: the client gets them all the same, and an estimate is charged. An
answer that is not a message at all is a failure, for which nothing is charged.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from ...domain.llm.half_characters import decoded_with_bytes, whole_characters
from ...domain.llm.relays import RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from ...domain.llm.reported_usage import NO_HEADERS, ReportedUsage, UsageReporter
from ...domain.llm.token_estimate import estimated_tokens
from ...domain.llm.usage import StreamCounts, counts_of, output_of, usage_of
from ...domain.pricing import Usage
from ...domain.provider_faults import ModelFault
from ...ports import ModelError, ToldError, TransientError
from ..upstream.exchange import Flow
from .answers import reported_of
from .stream import stream_error

# A longer event is passed on, but not read.
_LINE_MAX_BYTES: Final = 4 << 20
# Only the size of a thought that was not shown is known. English text has some 3.5 bytes for a token.
_UNSEEN_BYTES_FOR_TOKENS: Final = (7, 2)
# A stream ends with its last event; a provider that forgets to end it costs us this.
_READ_UP_S: Final = 0.25
# Names of deltas that the client sees, and that are billed as output.
_GIVEN: Final = ("text", "thinking", "partial_json")
# Names of fields that a block begins with; "name" is that of a tool that is called.
_BEGUN: Final = ("text", "thinking", "name")
# Events by which a message is known. A ping or an error may come without one.
_OF_MESSAGES: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
_REFUSAL: Final = "refusal"
_NO_USAGE: Final = msgspec.Raw(b"null")


class _Whole(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")
    content: msgspec.Raw = msgspec.Raw(b"")
    model: Any = None
    stop_reason: Any = None


class _WithUsage(msgspec.Struct):
    """Event, or the message in one, with its usage to the byte."""

    usage: msgspec.Raw = msgspec.Raw(b"null")


class _MessageStart(msgspec.Struct):
    message: _WithUsage


class _Block(msgspec.Struct):
    type: str


class _Content(msgspec.Struct):
    content: list[_Block]


class _TextDelta(msgspec.Struct, tag="text_delta", forbid_unknown_fields=True, gc=False):
    text: str


class _TextEvent(msgspec.Struct, gc=False):
    type: Literal["content_block_delta"]
    delta: _TextDelta


_TEXT_DELTA: Final = b'"text_delta"'
_text_events: Final = msgspec.json.Decoder(_TextEvent)
_contents: Final = msgspec.json.Decoder(_Content)
_starts: Final = msgspec.json.Decoder(_MessageStart)
_changes: Final = msgspec.json.Decoder(_WithUsage)
_wholes: Final = msgspec.json.Decoder(_Whole)
_events: Final[msgspec.json.Decoder[dict[str, Any]]] = msgspec.json.Decoder(dict[str, Any])


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the provider's headers that are for the client; the others speak of our account there."""
    return {"content-type": headers.get("content-type", "application/json")}


def message_end(status: int, headers: Mapping[str, str], body: bytes) -> RelayEnd:
    """Return the `RelayEnd` of a whole message.

    Raises `TransientError` for a body without the content of one: no client of either API could use it.
    """
    body = whole_characters(body)
    end = whole_end(status, headers, body)
    if not _has_content(body):
        raise TransientError("the model provider's answer is not a message")
    return end


def whole_end(status: int, headers: Mapping[str, str], body: bytes) -> RelayEnd:
    """Return the `RelayEnd` of a whole answer, or of a refusal."""
    try:
        found = _wholes.decode(body)
    except (ValueError, RecursionError):
        return RelayEnd(status, kept_headers(headers), body, None)
    counts = counts_of(found.usage)
    given_tokens = output_of(counts) or estimated_tokens(_text_of(bytes(found.content)), _name(found.model))
    declined = found.stop_reason == _REFUSAL and _is_empty(bytes(found.content))
    usage, reported = usage_of(counts, given_tokens), reported_of(found.usage, headers)
    given_bytes = 0 if usage is not None else _size(_text_of(bytes(found.content)))
    return RelayEnd(status, kept_headers(headers), body, usage, given_tokens, declined, reported, given_bytes)


def counted_by(end: RelayEnd) -> int:
    """Return the tokens in a count. Raises `TransientError` for an answer that holds none."""
    if end.counted is None:
        raise TransientError(f"the model provider did not count a prompt: {end.status}")
    return end.counted


async def streamed(
    headers: Mapping[str, str], chunks: AsyncIterator[bytes], flow: Flow | None = None
) -> AsyncGenerator[RelayPart, None]:
    """Yield the parts of a streamed answer; with a `flow`, its bytes and counts go there instead, once it has begun.

    Raises `PortError`; a `ToldError` when the provider's own event, which the client has seen, reported the error.
    """
    answer, parts = RelayedStream(headers), deque[RelayPart]()
    give = flow.give if flow is not None else lambda data, count: parts.extend((data, count))

    def take(chunk: bytes) -> bool:
        answer.read(chunk)
        give(RelayBytes(chunk), answer.so_far())
        return answer.over

    beginning = await _beginning(answer, chunks)
    yield RelayBegun(kept_headers(headers))
    give(RelayBytes(beginning), answer.so_far())
    if flow is not None and not answer.over:
        await flow.feed(take)
    while flow is None:
        while parts:
            yield parts.popleft()
        if answer.over or (chunk := await anext(chunks, None)) is None:
            break
        if chunk:
            take(chunk)
    if answer.error is not None:
        raise ToldError(str(stream_error(answer.error)))
    if not answer.ended:
        raise _ended_early()
    async for chunk in _rest(chunks):
        yield RelayBytes(chunk)
    yield answer.end(kept_headers(headers))


async def _beginning(answer: RelayedStream, chunks: AsyncIterator[bytes]) -> bytes:
    """Return the first bytes of an answer, up to the first event of a message. Raises `PortError`.

    Nothing that is not a message is given: the client would have to pay for it.
    """
    withheld = b""
    while not answer.begun:
        chunk = await anext(chunks, None)
        if chunk is None:
            raise _ended_early()
        answer.read(chunk)
        withheld += chunk
        if answer.error is not None and not answer.gave:
            # Nothing of it was given yet, so that it can be tried again.
            raise stream_error(answer.error)
        if not answer.begun and len(withheld) > _LINE_MAX_BYTES:
            raise TransientError("the model provider's answer is not a message")
    return withheld


def _ended_early() -> ModelError:
    return ModelError("the model provider's answer ended before its end", ModelFault.FAILING)


async def _rest(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the bytes behind the last event: no more than an empty line. Raises nothing."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _READ_UP_S
    while True:
        try:
            async with asyncio.timeout_at(deadline_s):
                chunk = await anext(chunks, None)
        except Exception:
            return
        if chunk is None:
            return
        yield chunk


class RelayedStream:
    """Reader of one streamed answer. `error`: the kind of the event with which it broke off."""

    def __init__(self, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self._reporter = UsageReporter(headers)
        self._line = b""
        self._counted = StreamCounts()
        # What was read of the figures until now; None when an event has changed them since. Few do.
        self._reading: tuple[Usage | None, ReportedUsage] | None = None
        self._given: list[str] = []
        self._told = 0
        self._unseen_tokens = 0
        self._thought_bytes = 0
        self._thinks = False
        self._pauses = False
        self._model: str | None = None
        self._has_output = False
        self._stop_reason: str | None = None
        self.begun = False
        self.ended = False
        self.error: str | None = None

    def read(self, chunk: bytes) -> None:
        """Take the next bytes, however they are cut. Raises nothing."""
        data = self._line + chunk if self._line else chunk
        if b"\r" in data:
            data = data.replace(b"\r", b"\n")
        *lines, self._line = data.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[len(b"data:") :])
        if len(self._line) > _LINE_MAX_BYTES:
            self._line = b""

    @property
    def gave(self) -> bool:
        """Return whether something of the answer has come that is billed as output."""
        return bool(self._given)

    @property
    def over(self) -> bool:
        """Return whether nothing more of the answer comes."""
        return self.ended or self.error is not None

    def so_far(self) -> RelaySoFar:
        """Return the usage until now."""
        counted, told = self._counted, self._told
        self._told = len(self._given)
        given = "".join(self._given[told:])
        if self._reading is None:
            self._reading = counted.usage(0), self.reported()
        usage, reported = self._reading
        return RelaySoFar(usage, given, self._unseen_tokens, self._thinks, counted.final, self._pauses, reported)

    def reported(self) -> ReportedUsage:
        """Return the provider's report until now."""
        return self._reporter.report(final=self._counted.final)

    def end(self, headers: Mapping[str, str]) -> RelayEnd:
        """Return the end of the answer."""
        given_tokens = output_of(self._counted.counts) or 0
        if not self._counted.final:
            estimated = estimated_tokens("".join(self._given), self._model) + self._unseen_tokens
            given_tokens = max(given_tokens, estimated)
        declined = self._stop_reason == _REFUSAL and not self._has_output and not any(self._given)
        usage = self._counted.usage(given_tokens)
        given_bytes = 0 if usage is not None else _size("".join(self._given))
        return RelayEnd(200, headers, b"", usage, given_tokens, declined, self.reported(), given_bytes)

    def _take(self, data: bytes) -> None:
        if self.ended:
            return
        if _TEXT_DELTA in data and (text := _plain_text(data)) is not None:
            # Nearly all events are such. The rest of this method says the same of them, at twice the cost.
            self.begun = True
            if self._counted.final:
                self._go_on()
            self._given.append(text)
            return
        event, data = _decoded(data)
        kind = _name(event.get("type"))
        self.begun = self.begun or kind in _OF_MESSAGES
        match kind:
            case "message_start":
                message = event.get("message")
                self._reading = None
                self._counted.begin(_object(message, "usage"))
                self._reporter.begin(_usage_in(lambda: _starts.decode(data).message))
                self._model = _name(message.get("model")) if isinstance(message, dict) else None
            case "content_block_start":
                self._go_on()
                self._pauses = False
                block = _object(event, "content_block")
                self._thought_bytes = 0
                self._thinks = block.get("type") == "thinking"
                self._has_output = self._has_output or block.get("type") != "text"
                self._given += _texts(block, _BEGUN)
            case "content_block_delta":
                self._go_on()
                self._count(event.get("delta"))
            case "content_block_stop":
                self._thinks, self._pauses = False, True
            case "message_delta":
                self._reading = None
                self._counted.go_on(_object(event, "usage"))
                self._reporter.go_on(_usage_in(lambda: _changes.decode(data)))
                self._stop_reason = _name(_object(event, "delta").get("stop_reason")) or self._stop_reason
            case "message_stop":
                self.ended = True
            case "error":
                error = event.get("error")
                kind = error.get("type") if isinstance(error, dict) else None
                self.error = kind if isinstance(kind, str) else "unknown"

    def _go_on(self) -> None:
        """Note that more of the answer came."""
        if self._counted.final:
            self._reading = None
        self._counted.given()

    def _count(self, delta: Any) -> None:
        if not isinstance(delta, dict):
            return
        given = _texts(delta, _GIVEN)
        self._given += given
        if delta.get("type") == "thinking_delta":
            self._thought_bytes += sum(len(text.encode(errors="surrogatepass")) for text in given)
        signature = delta.get("signature")
        if isinstance(signature, str):
            # The signature holds the whole thought. The client may have been shown a summary of it, or nothing.
            size, tokens = _UNSEEN_BYTES_FOR_TOKENS
            self._unseen_tokens += max(0, len(signature) * 3 // 4 - self._thought_bytes) * tokens // size
            self._thinks = False


def _plain_text(data: bytes) -> str | None:
    """Return the text in an event that holds the next text of a block and nothing else; None for any other event."""
    try:
        return _text_events.decode(data).delta.text
    except (ValueError, RecursionError):
        return None


def _texts(found: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [text for name in names if isinstance(text := found.get(name), str)]


def _text_of(content: bytes) -> str:
    """Return the text in a whole answer's blocks; the content as it is, where it is not a list of blocks."""
    try:
        blocks = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(blocks, list):
        return content.decode(errors="replace")
    found: list[str] = []
    for block in blocks:
        if isinstance(block, dict):
            found += _texts(block, _BEGUN)
            if "input" in block:
                found.append(msgspec.json.encode(block["input"]).decode())
    return "".join(found)


def _has_content(body: bytes) -> bool:
    """Return whether a body has a message's blocks, whatever their kinds."""
    try:
        _contents.decode(body)
    except (ValueError, RecursionError):
        return False
    return True


def _is_empty(content: bytes) -> bool:
    """Return whether a whole answer's blocks hold nothing."""
    try:
        blocks = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(blocks, list) and all(block == {"type": "text", "text": ""} for block in blocks)


def _usage_in(decode: Callable[[], _WithUsage]) -> msgspec.Raw:
    try:
        return decode().usage
    except (ValueError, RecursionError):
        return _NO_USAGE


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _object(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _decoded(data: bytes) -> tuple[Mapping[str, Any], bytes]:
    try:
        return decoded_with_bytes(_events.decode, data)
    except (ValueError, RecursionError):
        return {}, data

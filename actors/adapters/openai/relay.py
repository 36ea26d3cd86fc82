"""Relay of chat completions: the bytes go on as they came, and the usage is read beside them.

An answer that is not a chat completion is a failure, for which nothing is charged, and nothing of it is passed on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ...domain.llm.chat_usage import chat_billed_as, chat_usage_of
from ...domain.llm.half_characters import whole_characters
from ...domain.llm.relays import RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from ...domain.llm.reported_usage import ChatReporter, ReportedUsage
from ...domain.llm.token_estimate import estimated_tokens
from ...domain.pricing import Usage
from ...domain.provider_faults import ModelFault
from ...ports import ModelError, ToldError, TransientError
from ..upstream.exchange import Flow
from .errors import ClientsFaultError, broken_off, error_in, failure_in_answer
from .pieces import beside, refused, shown, size_of
from .stream import LINE_MAX_BYTES, ChatStream, Piece

# A stream ends with its last event; an upstream that forgets to end it costs us this.
_READ_UP_S: Final = 0.25
_FILTERED: Final = "content_filter"
_NOT_CHAT: Final = "the upstream's answer is not a chat completion"


class Whole(msgspec.Struct, frozen=True):
    """A whole answer: its first choice's text and end, all that was given, and the usage.

    `refuses`: the first choice holds words of a refusal. `model` is the name that the server gave.
    """

    text: str
    finish_reason: str | None
    refuses: bool
    given: str
    usage: Usage | None
    model: str | None
    reported: ReportedUsage


class _WithUsage(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


def read_whole(headers: Mapping[str, str], body: bytes) -> Whole:
    """Return a whole answer. Raises `PortError` for an error in its place, and for any other body."""
    body = whole_characters(body)
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise TransientError(_NOT_CHAT) from None
    listed = found.get("choices")
    choices = [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []
    messages = [message for choice in choices if isinstance(message := choice.get("message"), dict)]
    if not messages:
        error = error_in(found)
        raise TransientError(_NOT_CHAT) if error is None else failure_in_answer(error)
    given = "".join(shown(message) + beside(message) for message in messages)
    counts, usage = found.get("usage"), None
    if isinstance(counts, dict):
        usage = chat_usage_of(counts, given=bool(given))
    if usage is not None:
        usage = msgspec.structs.replace(usage, billed_as=chat_billed_as(found.get("service_tier")))
    return Whole(
        shown(messages[0]),
        _name(choices[0].get("finish_reason")),
        bool(refused(messages[0])),
        given,
        usage,
        _name(found.get("model")),
        ChatReporter(headers).whole(msgspec.json.decode(body, type=_WithUsage).usage, usage),
    )


def whole_end(headers: Mapping[str, str], body: bytes) -> RelayEnd:
    """Return the `RelayEnd` of a whole answer. Raises as `read_whole`."""
    body = whole_characters(body)
    try:
        found = read_whole(headers, body)
    except ClientsFaultError as error:
        return error.end
    return _end(headers, body, found)


async def streamed(
    headers: Mapping[str, str], chunks: AsyncIterator[bytes], flow: Flow | None = None
) -> AsyncGenerator[RelayPart, None]:
    """Yield the parts of a streamed answer; with a `flow`, its bytes and counts go there instead, once it has begun.

    Raises `PortError`; a `ToldError` when the upstream's own event, which the client has seen, reported the error.
    """
    answer, parts = _RelayedChat(headers), deque[RelayPart]()
    give = flow.give if flow is not None else lambda data, count: parts.extend((data, count))

    def take(chunk: bytes) -> bool:
        give(RelayBytes(chunk), answer.read(chunk))
        return answer.over

    beginning, count = await _beginning(answer, chunks)
    if count is None:
        yield _refusal(answer.stream.error or _error_alone(beginning))
        return
    yield RelayBegun(kept_headers(headers))
    give(RelayBytes(beginning), count)
    if flow is not None and not answer.over:
        await flow.feed(take)
    while flow is None:
        while parts:
            yield parts.popleft()
        if answer.over or (chunk := await anext(chunks, None)) is None:
            break
        if chunk:
            take(chunk)
    if not answer.over:
        yield answer.at_end()
    if answer.stream.error is not None:
        raise ToldError(broken_off(answer.stream.error))
    if not answer.stream.whole:
        raise ModelError("the upstream's answer ended before its end", ModelFault.FAILING)
    async for chunk in _rest(chunks):
        # A usage that comes behind the last line counts.
        answer.stream.read(chunk)
        yield RelayBytes(chunk)
    yield _end(headers, b"", answer.whole())


async def _beginning(answer: _RelayedChat, chunks: AsyncIterator[bytes]) -> tuple[bytes, RelaySoFar | None]:
    """Return the first bytes of an answer, up to the first event of a completion, and the count after them.

    There is no count where the bytes are no completion, but an error or something else. Nothing of that is given.
    """
    withheld, stream = b"", answer.stream
    while True:
        chunk = await anext(chunks, None)
        count = answer.at_end() if chunk is None else answer.read(chunk)
        withheld += chunk or b""
        if stream.error is not None and not count.given:
            # Nothing of it was given yet: it is as an error status in its place.
            return withheld, None
        if stream.begun:
            return withheld, count
        if chunk is None or stream.ended:
            return withheld, None
        if len(withheld) > LINE_MAX_BYTES:
            raise TransientError(_NOT_CHAT)


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the upstream's headers that are for the client; the others speak of our account there."""
    return {"content-type": headers.get("content-type", "application/json")}


def _refusal(error: Mapping[str, Any]) -> RelayEnd:
    """Return the refusal of a client's body. Raises `PortError` for any other error."""
    found = failure_in_answer(error)
    if isinstance(found, ClientsFaultError):
        return found.end
    raise found


def _error_alone(body: bytes) -> Mapping[str, Any]:
    """Return the error in a body that holds no event of a stream. Raises `TransientError` where there is none."""
    try:
        error = error_in(msgspec.json.decode(body, type=dict[str, Any]))
    except (ValueError, RecursionError):
        error = None
    if error is None:
        raise TransientError(_NOT_CHAT)
    return error


class _RelayedChat:
    """Reader of one streamed answer that is relayed."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.stream = ChatStream(headers)
        self._given: list[str] = []
        # What was read of the figures until now, and when that was. Few events have figures.
        self._read_at: tuple[int, tuple[str, ...]] | None = None
        self._usage: Usage | None = None

    @property
    def over(self) -> bool:
        """Return whether nothing more of the answer comes."""
        return self.stream.ended or self.stream.error is not None

    def read(self, chunk: bytes) -> RelaySoFar:
        """Take the next bytes, however they are cut, and return the count after them. Raises nothing."""
        return self._so_far(self.stream.read(chunk))

    def at_end(self) -> RelaySoFar:
        """Take the last line, which a server may not have ended, once no more bytes come."""
        return self._so_far(self.stream.at_end())

    def whole(self) -> Whole:
        """Return what the stream held, once it has ended."""
        stream = self.stream
        given, reported = "".join(self._given), stream.reported(ended=True)
        return Whole("", stream.finish_reason, False, given, stream.counted.whole(), stream.model, reported)

    def _so_far(self, pieces: Sequence[Piece]) -> RelaySoFar:
        counted, more = self.stream.counted, "".join([piece.text + piece.beside for piece in pieces])
        if more:
            self._given.append(more)
        at = counted.taken, counted.billed_as
        if at != self._read_at:
            self._read_at, self._usage = at, counted.usage()
        usage, reported = self._usage, self.stream.reported()
        final = usage is not None and counted.final
        return RelaySoFar(usage, more, 0, False, final, counted.done, reported, True)


def _end(headers: Mapping[str, str], body: bytes, found: Whole) -> RelayEnd:
    usage, given = found.usage, found.given
    given_tokens = (
        usage.output_tokens if usage is not None else estimated_tokens(given, found.model or "") if given else 0
    )
    # A filter that lets nothing out is billed only where the upstream says what it has read.
    declined = usage is None and found.finish_reason == _FILTERED and not given
    given_bytes = size_of(given) if usage is None else 0
    return RelayEnd(200, kept_headers(headers), body, usage, given_tokens, declined, found.reported, given_bytes)


async def _rest(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the bytes behind the last event: no more than an empty line. Raises nothing."""
    deadline_s = asyncio.get_running_loop().time() + _READ_UP_S
    while True:
        try:
            async with asyncio.timeout_at(deadline_s):
                chunk = await anext(chunks, None)
        except Exception:
            return
        if chunk is None:
            return
        if chunk:
            yield chunk


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None

"""Relay of chat completions: the bytes go on as they came, and the usage is read beside them.

An answer that is not a chat completion is a failure, for which nothing is charged, and nothing of it is passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from ...domain.llm.chat_usage import chat_billed_as, chat_usage_of
from ...domain.llm.relays import RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from ...domain.llm.reported_usage import ChatReporter, ReportedUsage
from ...domain.llm.token_estimate import estimated_tokens
from ...domain.pricing import Usage
from ...domain.provider_faults import ModelFault
from ...ports import ModelError, ToldError, TransientError
from .errors import ClientsFaultError, broken_off, error_in, failure_in_answer
from .pieces import beside, refused, shown, size_of
from .stream import LINE_MAX_BYTES, ChatStream

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
    try:
        found = read_whole(headers, body)
    except ClientsFaultError as error:
        return error.end
    return _end(headers, body, found)


async def streamed(headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> AsyncGenerator[RelayPart, None]:
    """Yield the parts of a streamed answer.

    Raises `PortError`; a `ToldError` when the upstream's own event, which the client has seen, reported the error.
    """
    answer, given, begun, withheld = ChatStream(headers), "", False, b""
    while not answer.ended:
        chunk = await anext(chunks, None)
        pieces = answer.at_end() if chunk is None else answer.read(chunk)
        withheld += chunk or b""
        if not begun and answer.error is not None and not pieces:
            # Nothing of it was given yet: it is as an error status in its place.
            yield _refusal(answer.error)
            return
        if answer.begun and withheld:
            if not begun:
                yield RelayBegun(kept_headers(headers))
                begun = True
            yield RelayBytes(withheld)
            withheld = b""
        if begun:
            more = "".join(piece.text + piece.beside for piece in pieces)
            given += more
            yield _so_far(answer, more)
        elif len(withheld) > LINE_MAX_BYTES:
            raise TransientError(_NOT_CHAT)
        if answer.error is not None:
            raise ToldError(broken_off(answer.error))
        if chunk is None:
            break
    if not begun:
        yield _refusal(_error_alone(withheld))
        return
    if not answer.whole:
        raise ModelError("the upstream's answer ended before its end", ModelFault.FAILING)
    async for chunk in _rest(chunks):
        # A usage that comes behind the last line counts.
        answer.read(chunk)
        yield RelayBytes(chunk)
    yield _end(headers, b"", _whole_of(answer, given))


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


def _so_far(answer: ChatStream, given: str) -> RelaySoFar:
    counted = answer.counted
    usage = counted.usage()
    final = counted.final and usage is not None
    return RelaySoFar(usage, given, final=final, pauses=counted.done, reported=answer.reported(), counts_last=True)


def _whole_of(answer: ChatStream, given: str) -> Whole:
    """Return what a stream held, once it has ended."""
    reported = answer.reported(ended=True)
    return Whole("", answer.finish_reason, False, given, answer.counted.whole(), answer.model, reported)


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

"""Readers of upstreams' answers under any bytes, cut anywhere: the port's errors alone, and no figure of nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.anthropic import relay as anthropic_relay
from satmeter.actors.adapters.anthropic.answers import listed_models, read_completion, read_evaluation
from satmeter.actors.adapters.anthropic.client import _of_status as anthropic_error
from satmeter.actors.adapters.anthropic.relay import RelayedStream
from satmeter.actors.adapters.anthropic.stream import StreamedAnswer
from satmeter.actors.adapters.openai import relay as openai_relay
from satmeter.actors.adapters.openai.client import _of_status as openai_error
from satmeter.actors.adapters.openai.stream import ChatStream
from satmeter.actors.adapters.openai.work import WorkReader, work_in
from satmeter.actors.adapters.upstream.statuses import retry_after_s
from satmeter.actors.domain.llm.half_characters import whole_characters
from satmeter.actors.domain.llm.relays import RelayBytes, RelayEnd, RelayPart, RelaySoFar
from satmeter.actors.domain.llm.reported_usage import reading_of
from satmeter.actors.domain.llm.usage import counts_of
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.ports import Completion, Evaluation, PortError
from tests.fuzz.mutations import bodies, broken, cut, places
from tests.fuzz.upstream_seeds import CHAT_MESSAGES, CHAT_STREAMS, MESSAGES, STREAMS, events

HEADERS: Mapping[str, str] = {"content-type": "text/event-stream", "request-id": "req_upstream"}
MODEL = "claude-sonnet-5-5"
LINE_MAX_BYTES = 4 << 20
LOOP = asyncio.new_event_loop()
header_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["5", "-1", "nan", "inf", "1e400", "0", "1" * 400, "Wed, 21 Oct 2015 07:28:00 GMT", "true", "٣"]),
    st.builds(
        "{}, {} {} {} {}:{}:00 {}".format,
        st.sampled_from(["Wed", "Foo", ""]),
        st.integers(-1, 40),
        st.sampled_from(["Oct", "Jan", "Foo"]),
        st.integers(-1, 100_000),
        st.integers(-1, 30),
        st.integers(-1, 70),
        st.sampled_from(["GMT", "-0000", "+9999", "+99999999", "", "EST"]),
    ),
)
headers = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-should-retry", "content-type", "request-id", "x-request-id"]),
    header_texts,
    max_size=4,
)


async def _listed(parts: AsyncIterator[RelayPart], found: list[RelayPart]) -> None:
    async for part in parts:
        found.append(part)  # noqa: PERF401 - what came before a failure stays


def relayed(streamed: Callable[..., Any], pieces: list[bytes]) -> tuple[list[RelayPart], PortError | None]:
    """Return the parts of a relayed stream, and the error that ended it."""

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    found: list[RelayPart] = []
    try:
        LOOP.run_until_complete(_listed(streamed(HEADERS, chunks()), found))
    except PortError as error:
        return found, error
    return found, None


def tried(read: Callable[[], Any]) -> Any:
    """Return what was read, or the kind and words of the port's error."""
    try:
        return read()
    except PortError as error:
        return type(error).__name__, str(error)


def all_of(read: Callable[[bytes | None], Iterator[Any]], pieces: list[bytes], ended: Callable[[], bool]) -> list[Any]:
    """Return all parts that a reader makes of these pieces, and the port's error at their end."""
    found: list[Any] = []
    try:
        for piece in (*pieces, None):
            found += read(piece)
            if ended():
                break
    except PortError as error:
        found.append((type(error).__name__, str(error)))
    return found


def counted(end: RelayEnd, *, given: bool) -> None:
    """Check that what was given does not count as nothing, and that a receipt's reading is the bill's."""
    usage = end.usage
    if usage is None:
        assert not given or end.given_tokens > 0 or end.given_bytes > 0
        return
    assert min(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens) >= 0
    assert not given or usage.output_tokens > 0
    assert usage.prompt_tokens > 0
    report = end.reported
    assert report is not None
    if not (report.cut or report.partial or report.missing):
        assert same(reading_of(report), usage)


def same(one: Usage | None, other: Usage) -> bool:
    return one is not None and (
        (one.input_tokens, one.output_tokens, one.cache_read_tokens, one.cache_write_tokens)
        == (other.input_tokens, other.output_tokens, other.cache_read_tokens, other.cache_write_tokens)
    )


# The Messages API


@given(events(STREAMS), places)
def test_our_own_stream_of_messages_is_the_same_however_it_is_cut(sent: bytes, at: list[int]) -> None:
    whole, pieces = StreamedAnswer(MODEL, HEADERS), StreamedAnswer(MODEL, HEADERS)
    found = all_of(whole.read, [sent], lambda: whole.ended)
    assert all_of(pieces.read, list(cut(sent, at)), lambda: pieces.ended) == found
    if whole.ended:
        assert tried(whole.completion) == tried(pieces.completion)


@given(events(STREAMS), places)
def test_a_relayed_stream_of_messages_is_the_same_however_it_is_cut(sent: bytes, at: list[int]) -> None:
    whole, pieces = RelayedStream(HEADERS), RelayedStream(HEADERS)
    whole.read(sent)
    given_text = ""
    for piece in cut(sent, at):
        pieces.read(piece)
        given_text += pieces.so_far().given
    assert whole.so_far().given == given_text
    assert whole.end({}) == pieces.end({})
    assert (whole.begun, whole.ended, whole.error) == (pieces.begun, pieces.ended, pieces.error)
    counted(whole.end({}), given=any(whole._given))


@given(events(STREAMS), places)
def test_the_relay_of_messages_raises_nothing_else(sent: bytes, at: list[int]) -> None:
    relays(anthropic_relay.streamed, sent, at)


def relays(streamed: Callable[..., Any], sent: bytes, at: list[int]) -> None:
    found, error = relayed(streamed, list(cut(sent, at)))
    data = b"".join(part.data for part in found if isinstance(part, RelayBytes))
    assert sent.startswith(data)
    given = any(part.given for part in found if isinstance(part, RelaySoFar))
    if error is None:
        end = found[-1]
        assert isinstance(end, RelayEnd) and (data == sent or not data)
        counted(end, given=given)
    for part in found:
        if isinstance(part, RelaySoFar) and part.usage is not None:
            assert part.usage.prompt_tokens > 0


@given(bodies(MESSAGES))
def test_any_whole_message_is_read_or_fails_in_order(body: bytes) -> None:
    assert isinstance(tried(lambda: read_completion(body, MODEL, HEADERS)), Completion | tuple)
    assert isinstance(tried(lambda: read_evaluation(body, MODEL, HEADERS)), Evaluation | tuple)
    end = tried(lambda: anthropic_relay.message_end(200, HEADERS, body))
    if isinstance(end, RelayEnd):
        counted(end, given=bool(anthropic_relay._text_of(content_of(body))))
    anthropic_relay.whole_end(400, HEADERS, body)
    assert isinstance(listed_models(body), list | None)


def content_of(body: bytes) -> bytes:
    return bytes(anthropic_relay._wholes.decode(whole_characters(body)).content)


# Chat completions


@given(events(CHAT_STREAMS), places)
def test_our_own_stream_of_chat_is_the_same_however_it_is_cut(sent: bytes, at: list[int]) -> None:
    whole, pieces = WorkReader(HEADERS), WorkReader(HEADERS)
    first = text_of(all_of(whole.read, [sent], lambda: whole.work is not None))
    second = text_of(all_of(pieces.read, list(cut(sent, at)), lambda: pieces.work is not None))
    if whole.work is not None and pieces.work is not None:
        assert first == second
        assert whole.work == pieces.work


def text_of(parts: list[Any]) -> str:
    return "".join(part.text for part in parts if hasattr(part, "text"))


@given(events(CHAT_STREAMS), places)
def test_a_relayed_stream_of_chat_is_the_same_however_it_is_cut(sent: bytes, at: list[int]) -> None:
    whole, pieces = ChatStream(HEADERS), ChatStream(HEADERS)
    found = [*whole.read(sent), *whole.at_end()]
    assert [part for piece in cut(sent, at) for part in pieces.read(piece)] + pieces.at_end() == found
    assert whole.counted.whole() == pieces.counted.whole()
    assert whole.reported(ended=True) == pieces.reported(ended=True)
    assert (whole.begun, whole.ended, whole.error, whole.whole) == (
        pieces.begun,
        pieces.ended,
        pieces.error,
        pieces.whole,
    )


@given(events(CHAT_STREAMS), places)
def test_the_relay_of_chat_raises_nothing_else(sent: bytes, at: list[int]) -> None:
    relays(openai_relay.streamed, sent, at)


@given(bodies(CHAT_MESSAGES))
def test_any_whole_completion_is_read_or_fails_in_order(body: bytes) -> None:
    end = tried(lambda: openai_relay.whole_end(HEADERS, body))
    if isinstance(end, RelayEnd) and end.status == 200:
        counted(end, given=bool(openai_relay.read_whole(HEADERS, body).given))
    tried(lambda: work_in(body, HEADERS))


# Both


@given(st.integers(100, 999), headers, st.one_of(bodies([*MESSAGES, *CHAT_MESSAGES]), st.binary(max_size=50)))
def test_any_status_is_an_error_of_the_port(status: int, sent: dict[str, str], body: bytes) -> None:
    for read in (anthropic_error, openai_error):
        error = read(status, sent, body)
        assert isinstance(error, PortError) and len(str(error)) < 400
    wait_s = retry_after_s(sent)
    assert wait_s is None or 0 <= wait_s <= 3_600


@given(
    st.one_of(st.binary(max_size=60), bodies([{"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 2}}]))
)
def test_any_usage_has_figures_or_none(raw: bytes) -> None:
    assert isinstance(counts_of(raw), dict)


@given(st.sampled_from([STREAMS[0], CHAT_STREAMS[0]]).flatmap(lambda seed: events([seed])).flatmap(broken), places)
def test_broken_bytes_are_passed_over(sent: bytes, at: list[int]) -> None:
    for streamed in (anthropic_relay.streamed, openai_relay.streamed):
        relays(streamed, sent, at)


@pytest.mark.parametrize("begins", [b"data: ", b"", b": ", b"event: x"])
def test_an_event_without_an_end_is_not_kept(begins: bytes) -> None:
    piece, data = b"x" * 500_000, begins
    relayed_messages, chat = RelayedStream(), ChatStream()
    for _ in range(20):
        data = piece
        relayed_messages.read(data)
        chat.read(data)
        for reader in (relayed_messages, chat):
            assert len(reader._line) <= LINE_MAX_BYTES + len(piece)
    ours = StreamedAnswer(MODEL)
    found = all_of(ours.read, [piece] * 20, lambda: False)
    assert len(found) == 1 and len(ours._line) <= LINE_MAX_BYTES

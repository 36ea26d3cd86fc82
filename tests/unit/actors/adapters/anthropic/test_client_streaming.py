"""Streamed answers through the real SDK: what is sent, when text comes out, and every way in which it can end."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from satmeter.actors.adapters.anthropic.client import AnthropicProvider
from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.actors.adapters.upstream.http_client import AiohttpClient
from satmeter.actors.domain.llm.answers import Completion, StreamPart, TextDelta, UsageSoFar
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.ports import ModelError, PermanentError, PortError, RefusedRequestError, TransientError
from tests.helpers.anthropic_streams import (
    MODEL,
    SECRET,
    STOP,
    WHOLE,
    WHOLE_PARTS,
    Body,
    Provider,
    block,
    change,
    collect,
    delta,
    error,
    model,
    sse,
    start,
)
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi


async def parts_of(*chunks: bytes | Exception) -> list[StreamPart]:
    found: list[StreamPart] = []
    await collect(model(Provider(Body(chunks))), found)
    return found


async def failure_of(*chunks: bytes | Exception) -> tuple[list[StreamPart], PortError]:
    """Return the pieces before the failure, and the failure. The body is closed in every case."""
    found: list[StreamPart] = []
    body = Body(chunks)
    with pytest.raises(PortError) as caught:
        await collect(model(Provider(body)), found, SECRET)
    assert body.closed == 1
    return found, caught.value


async def test_an_answer_comes_as_first_usage_then_text_then_the_whole() -> None:
    assert await parts_of(sse(*WHOLE)) == WHOLE_PARTS


async def test_the_same_is_asked_as_for_a_whole_answer_but_streamed() -> None:
    streamed = Provider(Body([sse(*WHOLE)]))
    await collect(model(streamed), [])
    whole = Provider(Body([b"{}"]))
    with pytest.raises(TransientError):
        await model(whole).complete("Say hello", model=MODEL, max_tokens=100)
    assert streamed.sent == whole.sent and whole.sent["stream"] is True


async def test_text_comes_out_as_soon_as_its_bytes_are_there() -> None:
    body = Body([sse(start(), block(), delta("first")), sse(delta("second"))], hangs=True)
    async with aclosing(model(Provider(body)).stream("x", model=MODEL, max_tokens=100)) as parts:
        assert isinstance(await anext(parts), UsageSoFar)
        assert await anext(parts) == TextDelta("first")
        assert body.taken == 1
        assert await anext(parts) == TextDelta("second")
        assert body.taken == 2


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", ModelError),
        ("api_error", ModelError),
        ("rate_limit_error", ModelError),
        ("timeout_error", ModelError),
        ("error_of_tomorrow", ModelError),
        ("invalid_request_error", PermanentError),
        ("authentication_error", ModelError),
        ("billing_error", ModelError),
        ("permission_error", ModelError),
        ("not_found_error", PermanentError),
        ("request_too_large", PermanentError),
    ],
)
async def test_an_error_in_the_stream_comes_after_what_was_given(kind: str, expected: type[PortError]) -> None:
    found, failure = await failure_of(sse(start(), block(), delta("so far"), error(kind), delta("late")))
    assert type(failure) is expected
    assert kind in str(failure)
    assert found == [WHOLE_PARTS[0], TextDelta("so far")]


BEGUN = sse(start(), block(), delta("so far"))


@pytest.mark.parametrize(
    "rest",
    [
        [],
        [sse(change())],
        [sse(change()), b'data: {"type": "message_stop"}'],
        [b"data: {\n"],
        [b"data: null\n"],
        [b"data: [DONE]\n"],
        [b"data: " + b"[" * 100_000 + b"\n"],
        [sse(delta(None))],
        [sse(delta(["x"]))],
        [sse({"type": "content_block_delta", "index": 0})],
        [sse({"type": "error"})],
        [sse(STOP)],
        [b"x" * 700_000, b"x" * 700_000, sse(change(), STOP)],
        [httpx2.ReadError(SECRET)],
        [OSError(SECRET)],
    ],
    ids=lambda rest: repr(rest)[:40],
)
async def test_a_stream_that_breaks_off_is_transient_after_what_was_given(rest: list[bytes | Exception]) -> None:
    found, failure = await failure_of(BEGUN, *rest)
    assert isinstance(failure, TransientError)
    assert found[:2] == [WHOLE_PARTS[0], TextDelta("so far")]
    assert found[2:] in ([], [WHOLE_PARTS[3]])


@pytest.mark.parametrize("body", [b"", b"<html>proxy</html>", b'{"type": "message", "content": []}'])
async def test_what_is_no_stream_is_transient(body: bytes) -> None:
    found, failure = await failure_of(body)
    assert found == [] and isinstance(failure, TransientError)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([change("refusal")], RefusedRequestError),
        ([change("max_tokens")], PermanentError),
        ([delta("  \n"), change("max_tokens")], PermanentError),
        ([change("end_turn")], TransientError),
    ],
)
async def test_a_refusal_and_an_empty_answer_are_no_answers(
    events: list[dict[str, Any]], expected: type[PortError]
) -> None:
    found, failure = await failure_of(sse(start(), block(), *events, STOP))
    assert type(failure) is expected
    assert not any(isinstance(part, Completion) for part in found)


@pytest.mark.parametrize(
    ("status", "expected"), [(400, PermanentError), (401, ModelError), (429, TransientError), (529, TransientError)]
)
async def test_a_status_before_the_stream_means_what_it_means_for_a_whole_answer(
    status: int, expected: type[PortError]
) -> None:
    headers = {"retry-after": "7"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=error("api_error"), headers=headers))
    with pytest.raises(PortError) as caught:
        await collect(model(transport), [])
    assert isinstance(caught.value, expected)
    if isinstance(caught.value, TransientError):
        assert caught.value.retry_after_s == 7.0


async def test_a_failure_says_nothing_of_the_request_or_the_answer() -> None:
    kind = f"You said: {SECRET}!"
    broken: list[bytes | Exception] = [
        sse(error("api_error")),
        sse(error(kind)),
        sse({"type": "message_delta", "delta": {"stop_reason": [SECRET]}}),
        f"data: {SECRET}\n".encode(),
        httpx2.ReadError(SECRET),
    ]
    for chunk in broken:
        _, failure = await failure_of(BEGUN, chunk)
        assert SECRET not in "".join(traceback.format_exception(failure))
        link: BaseException | None = failure
        while link is not None:
            assert SECRET not in repr(link)
            link = link.__context__


async def test_closing_the_stream_ends_the_exchange_at_once() -> None:
    body = Body([BEGUN, sse(delta("never taken"))], hangs=True)
    parts = model(Provider(body)).stream("x", model=MODEL, max_tokens=100)
    await anext(parts)
    assert body.closed == 0
    await parts.aclose()
    assert (body.closed, body.taken) == (1, 1)


async def test_cancelling_the_reader_ends_the_exchange_at_once() -> None:
    body = Body([BEGUN], hangs=True)
    reading = asyncio.create_task(collect(model(Provider(body)), []))
    await asyncio.wait_for(body.waits.wait(), PATIENCE_S)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert body.closed == 1


async def test_an_exchange_is_over_before_the_whole_answer_is_given() -> None:
    body = Body([sse(*WHOLE)])
    async with aclosing(model(Provider(body)).stream("x", model=MODEL, max_tokens=100)) as parts:
        async for part in parts:
            assert (body.closed == 1) is isinstance(part, Completion)


async def test_a_body_is_read_to_its_end_so_that_its_connection_can_be_used_again() -> None:
    body = Body([sse(*WHOLE), b"\n"])
    await collect(model(Provider(body)), [])
    assert body.taken == 2


async def test_a_provider_that_does_not_hang_up_after_the_end_is_not_waited_for() -> None:
    body = Body([sse(*WHOLE)], hangs=True)
    found: list[StreamPart] = []
    await asyncio.wait_for(collect(model(Provider(body)), found), PATIENCE_S)
    assert (found, body.closed) == (WHOLE_PARTS, 1)


async def test_the_stub_streams_what_it_answers_whole() -> None:
    made = model(StubMessagesApi())
    found: list[StreamPart] = []
    await collect(made, found)
    whole = await made.complete("Say hello", model=MODEL, max_tokens=100)
    first, *texts, last = found
    assert last == whole and whole.usage is not None
    assert isinstance(first, UsageSoFar) and first.usage == Usage(whole.usage.input_tokens, 1)
    assert whole.reported is not None and (whole.reported.provider_id or "").startswith("req_stub_")
    assert "".join(part.text for part in texts if isinstance(part, TextDelta)) == whole.text
    assert len(texts) > 1


async def test_the_stub_breaks_an_answer_that_is_asked_to_break() -> None:
    made = model(StubMessagesApi())
    found: list[StreamPart] = []
    with pytest.raises(TransientError, match="api_error"):
        await collect(made, found, "Please [break] this")
    given = "".join(part.text for part in found if isinstance(part, TextDelta))
    whole: list[StreamPart] = []
    await collect(made, whole, "Please break this")
    assert isinstance(whole[-1], Completion)
    assert 0 < len(given) < len(whole[-1].text)
    with pytest.raises(TransientError, match="api_error"):
        await made.complete("Please [BREAK] this", model=MODEL, max_tokens=100)
    assert (await made.evaluate("Please [break] this", model="m")).verdict.accepted


@pytest.fixture
def served() -> Iterator[tuple[MessagesApi, Callable[[], AnthropicProvider]]]:
    """The stub as a real server, and clients of it."""
    api = MessagesApi()
    yield api, lambda: AnthropicProvider(AiohttpClient(), base_url=api.url)
    api.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


async def _ready(made: AnthropicProvider) -> None:
    """Returns once the server answers."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await made.complete("x", model=MODEL, max_tokens=1)
            except TransientError:
                continue
            return


async def test_over_a_real_connection_a_reader_that_leaves_stops_the_provider(
    served: tuple[MessagesApi, Callable[[], AnthropicProvider]],
) -> None:
    api, client = served
    made = client()
    await _ready(made)
    api.hold_stream(after_events=5)
    async with aclosing(made.stream("Say hello", model=MODEL, max_tokens=100)) as parts:
        await anext(parts)
        await anext(parts)
        assert api.streams_cut == 0
    await _until(lambda: api.streams_cut == 1)
    api.let_go()
    found: list[StreamPart] = []
    await collect(made, found)
    assert isinstance(found[-1], Completion)
    assert api.streams_cut == 1
    await made.close()

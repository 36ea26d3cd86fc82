"""Bodies that trickle in and streams that fall silent, with the waiting made short."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.edge.connections import CONNECTION
from satmeter.http.jobs.schemas import NewJob
from satmeter.http.request.body import read_json
from satmeter.http.response import sse
from satmeter.http.response.errors import ClosingError
from satmeter.http.response.waiting import Ending
from tests.helpers.patience import PATIENCE_S

MessageQueue = asyncio.Queue[dict[str, Any]]


def request_of(messages: MessageQueue, *headers: tuple[bytes, bytes]) -> Request:
    return Request({"type": "http", "method": "POST", "headers": list(headers)}, messages.get)


def part(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces_is_one_body() -> None:
    messages: MessageQueue = asyncio.Queue()
    for piece in (part(b'{"requ', True), part(b"", True), part(b'est":"a"}', False)):
        messages.put_nowait(piece)
    assert (await read_json(request_of(messages), NewJob, 1_024)).request == "a"


async def test_a_body_that_does_not_arrive_is_refused_and_its_connection_closed() -> None:
    messages: MessageQueue = asyncio.Queue()
    messages.put_nowait(part(b'{"requ', True))
    with pytest.raises(ClosingError) as refused:
        await read_json(request_of(messages), NewJob, 1_024, read_s=0.02)
    assert refused.value.refusal.code is Code.INVALID_REQUEST


async def test_a_client_that_goes_away_is_not_answered() -> None:
    messages: MessageQueue = asyncio.Queue()
    messages.put_nowait(part(b'{"requ', True))
    messages.put_nowait({"type": "http.disconnect"})
    with pytest.raises(ClientDisconnect):
        await read_json(request_of(messages), NewJob, 1_024)


async def test_a_declared_length_over_the_limit_is_refused_before_it_is_kept() -> None:
    messages: MessageQueue = asyncio.Queue()
    messages.put_nowait(part(b"x" * 2_000, False))
    with pytest.raises(RefusedError) as refused:
        await read_json(request_of(messages, (b"content-length", b"2000")), NewJob, 1_024)
    assert refused.value.refusal.code is Code.BODY_TOO_LARGE
    assert not isinstance(refused.value, ClosingError), "all of it was read, so the connection can go on"


@pytest.mark.parametrize("declared", [b"-5", b"abc", b"9" * 5_000, "٣".encode()])
async def test_a_declared_length_that_is_rubbish_is_not_believed(declared: bytes) -> None:
    messages: MessageQueue = asyncio.Queue()
    messages.put_nowait(part(b'{"request":"a"}', False))
    request = request_of(messages, (b"content-length", declared))
    assert (await read_json(request, NewJob, 1_024)).request == "a"


class Sent:
    """Output of a stream."""

    def __init__(self) -> None:
        self.bodies: MessageQueue = asyncio.Queue()

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.bodies.put(message)

    async def next(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            body: bytes = (await self.bodies.get())["body"]
        return body


async def run(stream: sse.EventStream, receive: MessageQueue, sent: Sent) -> None:
    await stream({"type": "http", "method": "GET"}, receive.get, sent)


def streamed(events: AsyncGenerator[bytes, None], ping_s: float = 10.0, **options: Any) -> sse.EventStream:
    return sse.EventStream(events, events, ping_s, **options)


async def silent(released: asyncio.Event) -> AsyncGenerator[bytes, None]:
    try:
        yield sse.event("state", b"{}")
        await asyncio.Event().wait()
    finally:
        released.set()


async def test_a_silent_stream_is_kept_alive_by_comments_and_released_in_the_end() -> None:
    released, ending, sent = asyncio.Event(), Ending(), Sent()
    stream = streamed(silent(released), ping_s=0.01, ending=ending)
    running = asyncio.create_task(run(stream, asyncio.Queue(), sent))
    assert await sent.next() == b"event: state\ndata: {}\n\n"
    assert await sent.next() == b": keep-alive\n\n"
    assert await sent.next() == b": keep-alive\n\n"
    ending.set()
    await asyncio.wait_for(running, PATIENCE_S)
    assert released.is_set()


async def test_a_stream_whose_client_is_gone_is_released() -> None:
    released, receive, sent = asyncio.Event(), asyncio.Queue[dict[str, Any]](), Sent()
    running = asyncio.create_task(run(streamed(silent(released)), receive, sent))
    await sent.next()
    receive.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(running, PATIENCE_S)
    assert released.is_set()


class Source:
    """Source of events, which is closed although nothing was ever taken from it."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


async def test_a_stream_that_can_t_send_its_head_releases_what_it_is_made_of() -> None:
    async def broken(message: Any) -> None:
        raise OSError("the connection broke")

    source = Source()
    stream = sse.EventStream(silent(asyncio.Event()), source, 10.0)
    with pytest.raises(OSError, match="broke"):
        await stream({"type": "http"}, asyncio.Queue[Any]().get, broken)
    assert source.closed == 1


async def test_the_head_goes_out_before_there_is_anything_to_send() -> None:
    heads: list[str] = []
    more, pinged = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        await more.wait()
        yield b"first"

    async def send(message: Any) -> None:
        heads.append(message["type"] if message["type"] == "http.response.start" else message["body"].decode())
        if message.get("body") == b"ping":
            pinged.set()

    stream = streamed(source(), ping_s=0.01, ping=b"ping")
    running = asyncio.create_task(stream({"type": "http"}, asyncio.Queue[Any]().get, send))
    await asyncio.wait_for(pinged.wait(), 5)
    more.set()
    await asyncio.wait_for(running, 5)
    assert heads[:2] == ["http.response.start", "ping"] and heads[-2:] == ["first", ""]


async def test_a_stream_whose_source_fails_raises_what_it_raised() -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"first"
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await run(streamed(failing()), asyncio.Queue(), Sent())


async def test_events_that_wait_already_share_one_send_and_the_first_waits_for_none() -> None:
    more = asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        yield b"1"
        await more.wait()
        for event in (b"2", b"3", b"4"):
            yield event

    sent = Sent()
    running = asyncio.create_task(run(streamed(source()), asyncio.Queue(), sent))
    assert await sent.next() == b"1"
    more.set()
    assert await sent.next() == b"234"
    assert await sent.next() == b""
    await asyncio.wait_for(running, PATIENCE_S)


async def test_what_came_before_a_fault_is_sent() -> None:
    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"first"
        yield b"second"
        raise ValueError("a defect")

    sent = Sent()
    with pytest.raises(ValueError, match="a defect"):
        await run(streamed(failing()), asyncio.Queue(), sent)
    assert await sent.next() == b"firstsecond"


async def test_a_client_whose_connection_breaks_ends_the_source() -> None:
    released = asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the connection broke")

    with pytest.raises(OSError, match="broke"):
        await streamed(silent(released))({"type": "http"}, asyncio.Queue[Any]().get, send)
    assert released.is_set()


async def test_a_client_that_reads_slowly_is_not_pinged_and_gets_what_waits_at_once() -> None:
    reads, sent, began = asyncio.Event(), list[bytes](), asyncio.Event()

    async def source() -> AsyncGenerator[bytes, None]:
        for event in (b"1", b"2", b"3"):
            yield event
            await asyncio.sleep(0)

    async def send(message: Any) -> None:
        if message.get("body"):
            sent.append(message["body"])
            began.set()
            await reads.wait()

    running = asyncio.create_task(
        streamed(source(), ping_s=0.01, ping=b"ping")({"type": "http"}, asyncio.Queue[Any]().get, send)
    )
    await asyncio.wait_for(began.wait(), PATIENCE_S)
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, passed.set)
    await passed.wait()
    assert sent == [b"1"]
    reads.set()
    await asyncio.wait_for(running, PATIENCE_S)
    assert b"".join(sent) == b"123"


async def test_a_body_that_may_be_missing_may_also_have_any_type_then() -> None:
    messages: MessageQueue = asyncio.Queue()
    messages.put_nowait(part(b"", False))
    request = request_of(messages, (b"content-type", b"application/x-www-form-urlencoded"))
    empty = NewJob(request="nothing")
    assert await read_json(request, NewJob, 1_024, empty=empty) is empty
    messages.put_nowait(part(b"request=a", False))
    with pytest.raises(RefusedError) as refused:
        await read_json(request, NewJob, 1_024, empty=empty)
    assert refused.value.refusal.code is Code.UNSUPPORTED_MEDIA_TYPE


async def test_nothing_is_kept_of_a_stream_that_its_client_has_left() -> None:
    released, receive, sent = asyncio.Event(), asyncio.Queue[dict[str, Any]](), Sent()
    stream = streamed(silent(released))
    kept = weakref.ref(stream)
    gc.collect()
    gc.disable()
    try:
        running = asyncio.create_task(run(stream, receive, sent))
        del stream
        await sent.next()
        receive.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(running, PATIENCE_S)
        del running
        await asyncio.sleep(0)
        assert kept() is None, "an ended stream waits for the collector, with all of its request"
    finally:
        gc.enable()


class Connection:
    """A front's connection, whose end the test decides."""

    def __init__(self) -> None:
        self.end = asyncio.get_running_loop().create_future()

    def left(self) -> asyncio.Future[None]:
        return self.end


async def test_a_silent_stream_of_a_front_costs_one_task_beside_its_request_s() -> None:
    """Thousands of them wait, and each task and what it awaits is a kilobyte."""
    released, connection, sent, before = asyncio.Event(), Connection(), Sent(), asyncio.all_tasks()
    stream = streamed(silent(released), ping_s=0.01, ending=Ending())
    scope = {"type": "http", "method": "GET", CONNECTION: connection}
    running = asyncio.create_task(stream(scope, asyncio.Queue[Any]().get, sent))
    assert await sent.next() == b"event: state\ndata: {}\n\n"
    assert await sent.next() == b": keep-alive\n\n"
    assert len(asyncio.all_tasks() - before) == 2
    connection.end.set_result(None)
    await asyncio.wait_for(running, PATIENCE_S)
    assert released.is_set()


@pytest.mark.parametrize("framing", [(b"content-length", b"9"), (b"transfer-encoding", b"chunked")])
async def test_the_body_of_a_get_is_read_on_so_that_its_client_s_end_is_seen(framing: tuple[bytes, bytes]) -> None:
    released, receive, sent = asyncio.Event(), asyncio.Queue[dict[str, Any]](), Sent()
    scope = {"type": "http", "method": "GET", "headers": [framing], CONNECTION: Connection()}
    running = asyncio.create_task(streamed(silent(released))(scope, receive.get, sent))
    await sent.next()
    receive.put_nowait(part(b"x", True))
    receive.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(running, PATIENCE_S)
    assert released.is_set()

"""Answers that are long in coming: their heads, what keeps their connections alive, and failures that come late."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

import anthropic
import httpx
import httpx2
import openai
import pytest
import pytest_asyncio
from msgspec.structs import replace
from redis.asyncio import Redis
from starlette.requests import Request

from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.actors.domain.llm.answers import Held, TextDelta
from satmeter.actors.domain.llm.relays import RelayBytes
from satmeter.actors.domain.session.messages import Relayed, RequestAnswer
from satmeter.actors.messages import WireCommand, WireReply
from satmeter.actors.router.router import Router
from satmeter.http.response.replies import head_after_s
from tests.helpers.anthropic_streams import STOP, block, change, delta, sse, start
from tests.helpers.conversations import Played
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over
from tests.helpers.patience import PATIENCE_S

Json = dict[str, Any]
PING_S: Final = 0.05
PATHS = ("/ask", "/v1/messages", "/v1/chat/completions")
PINGS = {
    "/ask": ": keep-alive",
    "/v1/messages": ': keep-alive\nevent: ping\ndata: {"type": "ping"}',
    "/v1/chat/completions": ": keep-alive",
}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
UNFIT = {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: too many cooks"}}
# An SDK that waits for so long gets the head in half of it.
SOON = {"x-stainless-read-timeout": "0.1"}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis, ping_s=PING_S) as found:
        yield found


def body_for(path: str, *, stream: bool) -> Json:
    asked: Json = {"request": "Hello, model"} if path == "/ask" else {"model": MODEL, "max_tokens": 500}
    return {**asked, "stream": stream} if path == "/ask" else {**asked, "messages": HELLO, "stream": stream}


@asynccontextmanager
async def asking(shop: Shop, path: str, *, stream: bool) -> AsyncIterator[httpx.Response]:
    headers = {"authorization": f"Bearer {shop.key}", **SOON}
    async with (
        httpx.AsyncClient(base_url=shop.url, headers=headers, timeout=20) as client,
        client.stream("POST", path, json=body_for(path, stream=stream)) as answer,
    ):
        yield answer


def works_late(shop: Shop, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
    """The provider answers so, once its gate is open; evaluations pass beside it."""
    stub = StubMessagesApi()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        shop.upstream.requests.append(request)
        await request.aread()
        if "output_config" in json.loads(request.content):
            return await stub.handle_async_request(request)
        await shop.upstream.gate.pass_through()
        return httpx2.Response(status, json=body, headers=headers)

    shop.upstream.handle_async_request = handle  # type: ignore[method-assign]


async def pings(lines: AsyncIterator[str], path: str, count: int) -> None:
    """Reads so many pings, and nothing else before them."""
    awaited = PINGS[path].split("\n") * count
    async for line in lines:
        if line:
            assert line == awaited.pop(0)
        elif not awaited:
            return


# To programs and proxies of HTTP/1.0, which know no chunks


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failing", [False, True])
async def test_a_long_answer_to_http_1_0_ends_with_its_connection(
    shop: Shop, path: str, stream: bool, failing: bool
) -> None:
    if failing:
        works_late(shop, 500, OVERLOADED)
    shop.upstream.gate.close()
    body = json.dumps(body_for(path, stream=stream)).encode()
    head = f"POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nX-Api-Key: {shop.key}\r\n"
    head += f"Authorization: Bearer {shop.key}\r\nContent-Length: {len(body)}\r\n{next(iter(SOON))}: 0.1\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(shop.url).port)
    writer.write(head.encode() + body)
    async with asyncio.timeout(PATIENCE_S):
        shown = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert "transfer-encoding" not in shown and "content-length" not in shown and "connection: close" in shown
        await reader.readline()
        shop.upstream.gate.open()
        rest, whole = await until_the_end(reader)
    writer.close()
    # A proxy must see that the answer is not whole: to its client, the head has announced a success.
    assert whole is not (failing and not stream)
    if not stream:
        told = json.loads(rest)
        assert ("error" in told) is failing
    elif not failing:
        assert rest.endswith("\n\n") and "Hello" in rest
    assert all(not line or line[0] in ":edi{" for line in rest.splitlines())
    await shop.until_free()


async def until_the_end(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """Return the rest of what the server sends, and whether the connection ends in order."""
    got = b""
    while True:
        try:
            piece = await reader.read(65_536)
        except ConnectionResetError:
            return got.decode(), False
        if not piece:
            return got.decode(), True
        got += piece


# Streams


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_has_its_head_and_pings_before_the_model_has_said_a_word(shop: Shop, path: str) -> None:
    shop.upstream.gate.close()
    async with asking(shop, path, stream=True) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        if path != "/ask":
            assert answer.headers["satmeter-max-tokens"] == "500"
        lines = answer.aiter_lines()
        await pings(lines, path, 3)
        shop.upstream.gate.open()
        rest = "\n".join([line async for line in lines])
    assert "Hello" in rest and ("done" in rest if path == "/ask" else "Satmeter-Debited-Msat" in rest)
    await shop.until_free()


async def test_pings_fall_between_events_and_the_sdk_reads_all_of_them(shop: Shop) -> None:
    whole = sse(start(), block(), delta("Hello"), {"type": "content_block_stop", "index": 0}, change(), STOP)
    half, rest = whole[:-130], whole[-130:]
    go_on = asyncio.Event()

    class Halting(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield half
            await go_on.wait()
            yield rest

    headers = {"content-type": "text/event-stream"}
    shop.upstream.reply = lambda _: httpx2.Response(200, headers=headers, stream=Halting())
    async with asking(shop, "/v1/messages", stream=True) as answer:
        got = ""
        async for text in answer.aiter_text():
            got += text
            if got.count("event: ping") == 3:
                go_on.set()
    events = got.replace(PINGS["/v1/messages"] + "\n\n", "")
    # The last usage has the cost beside the provider's figures.
    assert re.sub(r',"cost_msat":.*?,"balance_msat":\d+', "", events, count=1).startswith(whole.decode())
    go_on.clear()
    async with shop.sdk() as sdk:
        asyncio.get_running_loop().call_later(3 * PING_S, go_on.set)
        async with sdk.messages.stream(model=MODEL, max_tokens=500, messages=HELLO) as stream:
            assert await stream.get_final_text() == "Hello"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("status", "body"), [(500, OVERLOADED), (400, UNFIT)])
async def test_what_fails_after_the_head_is_an_error_event_and_costs_nothing(
    shop: Shop, path: str, status: int, body: Json
) -> None:
    works_late(shop, status, body)
    shop.upstream.gate.close()
    async with asking(shop, path, stream=True) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        await pings(lines, path, 1)
        shop.upstream.gate.open()
        rest = [line async for line in lines]
    (data,) = [json.loads(line.removeprefix("data: ")) for line in rest if line.startswith("data: {")][-1:]
    if path == "/ask":
        assert "event: error" in rest and data["code"] in {"model_failed", "unavailable"}
    else:
        assert ("event: error" in rest) is (path == "/v1/messages")
        assert data["error"]["message"]
        if status == 400:
            assert data["error"]["message"] == "messages: too many cooks"
    await shop.until_free()
    spent = (await shop.show())["spentMsat"]
    assert spent == 0


LATE: dict[str, tuple[dict[int, str], Callable[[Json], str]]] = {
    "/ask": ({429: "rate_limited", 529: "overloaded"}, lambda told: str(told["code"])),
    "/v1/messages": ({429: "rate_limit_error", 529: "overloaded_error"}, lambda told: str(told["error"]["type"])),
    "/v1/chat/completions": ({429: "rate_limit_error", 529: "server_error"}, lambda told: str(told["error"]["type"])),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 529])
async def test_a_provider_s_limit_after_the_head_tells_in_the_api_s_shape_when_to_try_again(
    shop: Shop, path: str, stream: bool, status: int
) -> None:
    """The status is 200 by then, and no header can be added."""
    works_late(shop, status, OVERLOADED, {"retry-after": "37"})
    shop.upstream.gate.close()
    got = b""
    async with asking(shop, path, stream=stream) as answer:
        assert answer.status_code == 200
        with suppress(httpx.RemoteProtocolError):
            async for chunk in answer.aiter_bytes():
                got += chunk
                shop.upstream.gate.open()
    lines = got.decode().splitlines()
    (told,) = [json.loads(line.removeprefix("data: ")) for line in lines if "{" in line and "ping" not in line]
    kinds, kind = LATE[path]
    assert kind(told) == kinds[status]
    assert told["retryAfterSeconds"] >= 37 and told["requestId"].startswith("req_")
    message = told["error"] if path == "/ask" else told["error"]["message"]
    assert "nothing was charged" in message
    assert ("event: error" in lines) is (stream and path != "/v1/chat/completions")
    await shop.until_free()
    assert (await shop.show())["spentMsat"] == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 529])
async def test_a_provider_s_limit_after_the_head_of_a_response_tells_when_to_try_again(
    shop: Shop, stream: bool, status: int
) -> None:
    works_late(shop, status, OVERLOADED, {"retry-after": "37"})
    shop.upstream.gate.close()
    got, headers = b"", {"authorization": f"Bearer {shop.key}", **SOON}
    body = {"model": MODEL, "input": "Hello", "stream": stream}
    async with (
        httpx.AsyncClient(base_url=shop.url, headers=headers, timeout=20) as client,
        client.stream("POST", "/v1/responses", json=body) as answer,
    ):
        with suppress(httpx.RemoteProtocolError):
            async for chunk in answer.aiter_bytes():
                got += chunk
                shop.upstream.gate.open()
    data = [json.loads(line.removeprefix("data: ")) for line in got.decode().splitlines() if "{" in line]
    (told,) = [event for event in data if not stream or event["type"] == "error"]
    assert told["retryAfterSeconds"] >= 37
    assert "nothing was charged" in (told["message"] if stream else told["error"]["message"])
    assert not stream or data[-1]["type"] == "response.failed"
    await shop.until_free()
    assert (await shop.show())["spentMsat"] == 0


async def test_the_openai_sdk_raises_what_fails_after_the_head(shop: Shop) -> None:
    works_late(shop, 400, UNFIT)
    shop.upstream.gate.close()
    async with openai.AsyncOpenAI(base_url=f"{shop.url}/v1", api_key=shop.key, max_retries=0) as sdk:
        chunks = await sdk.chat.completions.create(model=MODEL, max_tokens=500, messages=HELLO, stream=True)
        shop.upstream.gate.open()
        with pytest.raises(openai.APIError, match="too many cooks"):
            async for _ in chunks:
                pass


async def test_the_sdk_raises_what_fails_after_the_head(shop: Shop) -> None:
    works_late(shop, 400, UNFIT)
    shop.upstream.gate.close()
    async with shop.sdk() as sdk, sdk.messages.stream(model=MODEL, max_tokens=500, messages=HELLO) as stream:
        shop.upstream.gate.open()
        with pytest.raises(anthropic.APIStatusError, match="too many cooks"):
            await stream.get_final_text()


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_that_was_kept_while_its_connection_broke_is_given_after_the_head(
    shop: Shop, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router sends the call again, and the host has the whole answer by then: it is paid for."""
    opened = Router.open

    async def broken(router: Router, actor_id: str, command: WireCommand) -> AsyncGenerator[WireReply, None]:
        async with aclosing(opened(router, actor_id, command)) as first:
            kept = [reply async for reply in first]
        yield next(reply for reply in kept if isinstance(reply, Held))
        await head.wait()
        text = "".join(reply.text for reply in kept if isinstance(reply, TextDelta))
        data = b"".join(reply.data for reply in kept if isinstance(reply, RelayBytes))
        end = kept[-1]
        assert isinstance(end, Relayed | RequestAnswer)
        yield replace(end, body=data) if isinstance(end, Relayed) else replace(end, text=text)

    head = asyncio.Event()
    monkeypatch.setattr(Router, "open", lambda *call: Played(broken(*call)))
    async with asking(shop, path, stream=True) as answer:
        assert answer.status_code == 200
        head.set()
        text = "".join([part async for part in answer.aiter_text()])
    # The last event of `/ask` has the whole text besides.
    assert text.count("Hello") == (2 if path == "/ask" else 1)
    assert ("event: delta" in text) is (path == "/ask")
    monkeypatch.undo()
    spent = (await shop.show())["spentMsat"]
    assert spent > 0


@pytest.mark.parametrize("path", PATHS)
async def test_what_fails_at_once_has_a_status(shop: Shop, path: str) -> None:
    shop.upstream.answers(529, OVERLOADED)
    answer = await shop.post(body_for(path, stream=True), path)
    assert answer.status_code >= 500 and answer.headers["content-type"].startswith("application/json")
    spent = (await shop.show())["spentMsat"]
    assert spent == 0


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, 1.5),
        ({"x-stainless-read-timeout": "2"}, 1.0),
        ({"x-stainless-timeout": "600"}, 1.5),
        ({"x-stainless-timeout": "NOT_GIVEN", "x-stainless-read-timeout": "1.0"}, 0.5),
        ({"x-stainless-read-timeout": "-1"}, 1.5),
        ({"x-stainless-read-timeout": "nan"}, 1.5),
    ],
)
def test_a_head_waits_no_longer_than_half_of_what_its_client_does(headers: dict[str, str], expected_s: float) -> None:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert head_after_s(Request({"type": "http", "headers": sent}), 1.5) == expected_s


# Whole answers


@pytest.mark.parametrize("path", PATHS)
async def test_a_whole_answer_that_is_slow_has_line_breaks_before_it(shop: Shop, path: str) -> None:
    shop.upstream.gate.close()
    async with asking(shop, path, stream=False) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        if path != "/ask":
            assert answer.headers["satmeter-max-tokens"] == "500"
        got = ""
        async for text in answer.aiter_text():
            got += text
            if got.startswith("\n\n\n"):
                shop.upstream.gate.open()
    shown = json.loads(got)
    assert got.startswith("\n\n\n") and "Hello, model" in json.dumps(shown)
    await shop.until_free()
    seen = await shop.show()
    told = shown["usage"]["cost_msat"] if path != "/ask" else shown["debitedMsat"]
    assert told == seen["spentMsat"] > 0
    if path != "/ask":
        assert shown["usage"]["balance_msat"] == seen["balanceMsat"] and float(shown["usage"]["cost_usd"]) > 0


async def with_anthropic(shop: Shop, retries: int) -> tuple[str, dict[str, Any]]:
    async with shop.sdk(max_retries=retries) as sdk:
        answer = await sdk.messages.create(model=MODEL, max_tokens=500, messages=HELLO)
    (said,) = answer.content
    assert said.type == "text"
    return said.text, answer.usage.model_extra or {}


async def with_openai(shop: Shop, retries: int) -> tuple[str, dict[str, Any]]:
    async with openai.AsyncOpenAI(base_url=f"{shop.url}/v1", api_key=shop.key, max_retries=retries) as sdk:
        answer = await sdk.chat.completions.create(model=MODEL, max_tokens=500, messages=HELLO)
    assert answer.usage is not None
    return answer.choices[0].message.content or "", answer.usage.model_extra or {}


SDKS = {"anthropic": with_anthropic, "openai": with_openai}


@pytest.mark.parametrize("library", SDKS)
async def test_an_sdk_reads_a_slow_answer_and_what_it_cost(shop: Shop, library: str) -> None:
    shop.upstream.gate.close()
    asyncio.get_running_loop().call_later(4 * PING_S, shop.upstream.gate.open)
    text, told = await SDKS[library](shop, 0)
    await shop.until_free()
    seen = await shop.show()
    assert "Hello, model" in text
    assert (told["cost_msat"], told["balance_msat"]) == (seen["spentMsat"], seen["balanceMsat"])


@pytest.mark.parametrize("path", PATHS)
async def test_who_joins_a_call_by_its_key_gets_line_breaks_too(shop: Shop, path: str) -> None:
    shop.upstream.gate.close()
    key = {"idempotency-key": "same"}

    async def ask(client: httpx.AsyncClient, begun: asyncio.Event) -> str:
        got = ""
        async with client.stream("POST", path, json=body_for(path, stream=False), headers=key) as answer:
            async for text in answer.aiter_text():
                got += text
                if got.startswith("\n\n\n"):
                    begun.set()
        return got

    headers = {"authorization": f"Bearer {shop.key}"}
    async with httpx.AsyncClient(base_url=shop.url, headers=headers, timeout=20) as client:
        first_begun, second_begun = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(ask(client, first_begun))
        await asyncio.wait_for(first_begun.wait(), PATIENCE_S)
        second = asyncio.create_task(ask(client, second_begun))
        await asyncio.wait_for(second_begun.wait(), PATIENCE_S)
        shop.upstream.gate.open()
        answers = [json.loads(await first), json.loads(await second)]
    assert answers[0] == answers[1]
    assert len([entry for entry in await shop.ledger() if entry["kind"] == "debit"]) == 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("status", "body"), [(500, OVERLOADED), (400, UNFIT)])
async def test_a_whole_answer_that_fails_late_breaks_off_behind_the_error(
    shop: Shop, path: str, status: int, body: Json
) -> None:
    works_late(shop, status, body)
    shop.upstream.gate.close()
    got: list[str] = []

    async def read(answer: httpx.Response) -> None:
        async for text in answer.aiter_text():
            got.append(text)
            shop.upstream.gate.open()

    async with asking(shop, path, stream=False) as answer:
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await read(answer)
    told = json.loads("".join(got))
    assert told["error"] and (status != 400 or path == "/ask" or told["error"]["message"] == "messages: too many cooks")
    await shop.until_free()
    assert (await shop.show())["spentMsat"] == 0


@pytest.mark.parametrize("library", SDKS)
async def test_an_sdk_takes_a_late_failure_for_a_broken_connection_and_tries_again(shop: Shop, library: str) -> None:
    works_late(shop, 500, OVERLOADED)
    shop.upstream.gate.close()
    asyncio.get_running_loop().call_later(4 * PING_S, shop.upstream.gate.open)
    with pytest.raises(anthropic.APIError if library == "anthropic" else openai.APIError):
        await SDKS[library](shop, 1)
    assert len(shop.upstream.requests) == 2
    await shop.until_free()
    assert (await shop.show())["spentMsat"] == 0


async def test_a_client_that_leaves_a_slow_answer_ends_its_call(shop: Shop) -> None:
    shop.upstream.gate.close()
    async with asking(shop, "/v1/messages", stream=False) as answer:
        async for _ in answer.aiter_text():
            break
    await shop.until_free()
    assert shop.upstream.cut == 1 and (await shop.show())["spentMsat"] == 9 + 700

"""Bodies of up to 32 MiB under /v1/: who may send them, in which dialects, and how much of them is held at once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.api.test_l402 import challenged, paid_with
from tests.helpers.anthropic_streams import WHOLE, sse
from tests.helpers.hosts import until
from tests.helpers.http.fronts import converse, listening
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

MIB = 1_048_576
PNG = b"\x89PNG\r\n\x1a\n"
Json = dict[str, Any]
MESSAGE: Json = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "Nice pictures."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 30_000, "output_tokens": 20},
}


def pictures(size_mib: int) -> list[str]:
    """Images of 5 MiB each, in base64."""
    return [base64.b64encode(PNG + bytes([place]) * (15 * MIB // 4)).decode() for place in range(size_mib // 5)]


def messages_call(images: list[str], **fields: Any) -> Json:
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}} for data in images
    ]
    content = [*blocks, {"type": "text", "text": "What are these?"}]
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}


def chat_call(images: list[str], **fields: Any) -> Json:
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}} for data in images]
    content = [*parts, {"type": "text", "text": "What are these?"}]
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": content}], **fields}


def responses_call(images: list[str], **fields: Any) -> Json:
    parts = [{"type": "input_image", "image_url": f"data:image/png;base64,{data}"} for data in images]
    content = [*parts, {"type": "input_text", "text": "What are these?"}]
    return {"model": MODEL, "max_output_tokens": 100, "input": [{"role": "user", "content": content}], **fields}


DIALECTS = [
    ("/v1/messages", messages_call),
    ("/v1/chat/completions", chat_call),
    ("/v1/responses", responses_call),
]


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "call"), DIALECTS)
async def test_thirty_mib_of_images_are_answered_in_every_dialect(
    shop: Shop, path: str, call: Any, stream: bool
) -> None:
    if stream:
        shop.upstream.streams(sse(*WHOLE))
    else:
        shop.upstream.answers(200, MESSAGE)
    body = json.dumps(call(pictures(30), stream=stream)).encode()
    assert 30 * MIB <= len(body) <= 32 * MIB
    async with httpx.AsyncClient(base_url=shop.url, timeout=60) as http:
        headers = {"authorization": f"Bearer {shop.key}", "content-type": "application/json"}
        answer = await http.post(path, content=body, headers=headers)
    assert answer.status_code == 200, answer.text[:500]
    assert ("event-stream" in answer.headers["content-type"]) is stream
    (sent,) = shop.upstream.bodies
    images = [block for block in sent["messages"][0]["content"] if block["type"] == "image"]
    assert [len(image["source"]["data"]) for image in images] == [len(data) for data in pictures(30)]
    await shop.until_free()
    assert 0 < (await shop.show())["spentMsat"] < 1_000_000


async def test_a_large_call_has_a_key_and_one_charge(shop: Shop) -> None:
    shop.upstream.answers(200, MESSAGE)
    body = json.dumps(messages_call(pictures(10))).encode()
    first = await shop.post(body, **{"idempotency-key": "mine"})
    again = await shop.post(body, **{"idempotency-key": "mine"})
    assert first.status_code == 200 and again.content == first.content
    assert len(shop.upstream.requests) == 1
    other = await shop.post(body.replace(b"these", b"those"), **{"idempotency-key": "mine"})
    assert other.status_code == 409


async def test_a_large_prompt_is_counted_for_nothing(shop: Shop) -> None:
    shop.upstream.answers(200, {"input_tokens": 7})
    body = messages_call(pictures(10))
    del body["max_tokens"]
    answer = await shop.post(body, "/v1/messages/count_tokens")
    assert answer.json() == {"input_tokens": 7}
    answer = await shop.post(responses_call(pictures(10)), "/v1/responses/input_tokens")
    assert answer.json()["input_tokens"] == 7


@pytest.mark.parametrize(("path", "call"), DIALECTS)
async def test_above_32_mib_is_a_413_in_the_words_of_the_api(shop: Shop, path: str, call: Any) -> None:
    answer = await shop.post(json.dumps(call(pictures(35))).encode(), path)
    told = answer.json()
    assert (answer.status_code, told["code"], told["limitBytes"]) == (413, "body_too_large", 32 * MIB)
    assert told["error"]["type"] == ("request_too_large" if path == "/v1/messages" else "invalid_request_error")
    assert shop.upstream.requests == []


@pytest.mark.parametrize(("path", "call"), DIALECTS)
async def test_a_stranger_sends_no_more_than_before_and_is_told_how_to_send_more(
    shop: Shop, path: str, call: Any
) -> None:
    answer = await shop.api.http.post(path, content=json.dumps(call(pictures(5))).encode())
    told = answer.json()
    assert (answer.status_code, told["code"], told["limitBytes"]) == (413, "body_too_large", MIB)
    assert "macaroon" in told["error"]["message"] and str(32 * MIB) in told["error"]["message"]


async def test_a_wrong_key_is_refused_before_its_body_is_read(shop: Shop) -> None:
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: x{shop.key[1:]}\r\nContent-Length: {30 * MIB}\r\n\r\n"
    async with listening(shop.api.app) as server:
        assert b"HTTP/1.1 401 " in await converse(server.port, head.encode())


@pytest.mark.parametrize("framing", [f"Content-Length: {30 * MIB}", "Transfer-Encoding: chunked"])
async def test_the_macaroon_of_an_unpaid_session_is_refused_before_its_body_is_read(shop: Shop, framing: str) -> None:
    opened = (await shop.api.http.post("/sessions", json={"amountSats": 500})).json()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: {opened['macaroon']}\r\n{framing}\r\n\r\n"
    async with listening(shop.api.app) as server:
        answer = await converse(server.port, head.encode())
    assert b"HTTP/1.1 402 " in answer and opened["depositInvoice"]["paymentRequest"].encode() in answer


@pytest.mark.parametrize("framing", [f"Content-Length: {30 * MIB}", "Transfer-Encoding: chunked"])
async def test_a_session_that_ended_unpaid_is_refused_before_its_body_is_read(shop: Shop, framing: str) -> None:
    """Any client can open a session and close it, and pays nothing."""
    opened = (await shop.api.http.post("/sessions", json={"amountSats": 500})).json()
    path, headers = f"/sessions/{opened['sessionId']}/close", {"authorization": f"Bearer {opened['macaroon']}"}
    assert (await shop.api.http.post(path, headers=headers)).status_code == 200
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: {opened['macaroon']}\r\n{framing}\r\n\r\n"
    async with listening(shop.api.app) as server:
        answer = await converse(server.port, head.encode())
    assert b"HTTP/1.1 410 " in answer and b'"closed"' in answer


async def test_a_payment_that_is_not_seen_yet_is_waited_for_by_a_large_call(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.http.sessions.l402._SETTLES_WITHIN_S", 0.05)
    token, _ = challenged(await shop.api.http.post("/v1/messages", json=messages_call([])))
    body = json.dumps(messages_call(pictures(5))).encode()
    answer = await shop.api.http.post("/v1/messages", content=body, headers={"authorization": paid_with(shop, token)})
    told = answer.json()
    assert (answer.status_code, told["retryAction"], told["paymentState"]) == (402, "wait", "in_flight")


async def test_a_small_body_of_undeclared_length_leaves_the_room_to_others_while_it_is_answered(redis: Redis) -> None:
    async with shop_over(redis, llm_body_limit_bytes=6 * MIB, bodies_max_bytes=8 * MIB) as shop:
        shop.upstream.reply = lambda _: httpx2.Response(200, json=MESSAGE)
        shop.upstream.gate.close()
        body = json.dumps(messages_call([])).encode()

        async def chunks() -> AsyncIterator[bytes]:
            yield body

        async with httpx.AsyncClient(base_url=shop.url, timeout=60) as http:

            def post() -> asyncio.Task[httpx.Response]:
                return asyncio.create_task(http.post("/v1/messages", content=chunks(), headers={"x-api-key": shop.key}))

            first, second = post(), post()
            await until(lambda: _came(shop, 2))
            shop.upstream.gate.open()
            assert [(await task).status_code for task in (first, second)] == [200, 200]


async def _came(shop: Shop, calls: int) -> bool:
    return len(shop.upstream.requests) == calls


async def test_a_body_of_undeclared_length_may_be_large_too(shop: Shop) -> None:
    shop.upstream.answers(200, MESSAGE)
    body = json.dumps(messages_call(pictures(5))).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), MIB):
            yield body[at : at + MIB]

    async with httpx.AsyncClient(base_url=shop.url, timeout=60) as http:
        answer = await http.post("/v1/messages", content=chunks(), headers={"x-api-key": shop.key})
    assert answer.status_code == 200, answer.text


async def test_other_paths_take_one_mib_as_before(shop: Shop) -> None:
    answer = await shop.post({"request": "x" * 2 * MIB}, "/ask", authorization=f"Bearer {shop.key}")
    assert (answer.status_code, answer.json()["limitBytes"]) == (413, MIB)


async def test_a_body_is_held_until_its_answer_and_others_wait_for_room(redis: Redis) -> None:
    async with shop_over(redis, llm_body_limit_bytes=6 * MIB, bodies_max_bytes=8 * MIB) as shop:
        shop.upstream.reply = lambda _: httpx2.Response(200, json=MESSAGE)
        shop.upstream.gate.close()
        body = json.dumps(messages_call(pictures(5))).encode()
        first = asyncio.create_task(shop.post(body))
        await shop.upstream.gate.wait_for_arrival()
        second = asyncio.create_task(shop.post(body))
        # Requests without a body, or with a small one, need no room.
        assert (await shop.show())["state"] == "active"
        assert len(shop.upstream.requests) == 1 and not second.done()
        shop.upstream.gate.open()
        assert [(await task).status_code for task in (first, second)] == [200, 200]


async def test_small_calls_go_on_beside_large_ones(shop: Shop) -> None:
    shop.upstream.answers(200, MESSAGE)
    large = [asyncio.create_task(shop.post(json.dumps(messages_call(pictures(30))).encode())) for _ in range(3)]
    small = await shop.post({"model": MODEL, "max_tokens": 10, "messages": HELLO})
    assert small.status_code == 200
    assert [(await task).status_code for task in large] == [200, 200, 200]

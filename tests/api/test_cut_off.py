"""Cost of a stream whose client leaves before its last count: the count itself where it is near, or the text."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.llm.token_estimate import estimated_tokens
from satmeter.actors.effects import delivered_count
from tests.api.test_what_is_charged import VERDICT, judged
from tests.helpers.anthropic_streams import STOP, block, change, delta, sse, start
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over
from tests.helpers.token_samples import COUNTS, TEXTS

PATHS = ("/v1/messages", "/v1/chat/completions", "/v1/responses", "/ask")
FIRST = {"input_tokens": 27, "output_tokens": 1}
STOPPED = {"type": "content_block_stop", "index": 0}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


class Stream(httpx2.AsyncByteStream):
    """Sends its first bytes at once, and each of the others when it is let."""

    def __init__(self, first: bytes, *rest: bytes) -> None:
        self._first = first
        self._rest = rest
        self.let = asyncio.Semaphore(0)
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        for chunk in self._rest:
            await self.let.acquire()
            yield chunk
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed.set()


def plays(shop: Shop, stream: Stream, counts: int | None = None) -> None:
    """The provider streams this, and counts every prompt at so many tokens; without a number, it can't."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/count_tokens"):
            return httpx2.Response(404) if counts is None else httpx2.Response(200, json={"input_tokens": counts})
        if b"output_config" in request.content:
            return httpx2.Response(200, json=VERDICT)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)

    shop.upstream.reply = reply


async def leave(shop: Shop, path: str = PATHS[0], until_text: str = "said") -> None:
    """Asks, and leaves when this text has come."""
    calls = {"model": MODEL, "max_tokens": 5_000, "messages": HELLO, "stream": True}
    call = {"request": "Hello", "maxTokens": 5_000, "stream": True} if path == "/ask" else calls
    if path == "/v1/responses":
        call = {"model": MODEL, "max_output_tokens": 5_000, "input": "Hello", "stream": True}
    headers = {"x-api-key": shop.key, "content-type": "application/json"}
    async with (
        httpx2.AsyncClient(base_url=shop.url) as client,
        client.stream("POST", path, content=json.dumps(call), headers=headers) as answer,
    ):
        seen = ""
        async for piece in answer.aiter_text():
            seen += piece
            if until_text in seen:
                break


def price(output_tokens: int, path: str = PATHS[0]) -> int:
    """27 tokens in and so many out, at 2 and 10 dollars a million, infrastructure, 40 %; and the verdict of `/ask`."""
    return math.ceil((54 + output_tokens * 10 + 500) * 1.4) + judged(path)


async def spent(shop: Shop) -> int:
    await shop.until_free()
    return int((await shop.show())["spentMsat"])


@pytest.mark.parametrize("path", PATHS)
async def test_after_the_last_text_the_last_count_is_waited_for(shop: Shop, path: str) -> None:
    stream = Stream(
        sse(start(FIRST), block(), delta("said"), STOPPED), sse(change(usage={"output_tokens": 275})), sse(STOP)
    )
    plays(shop, stream)
    await leave(shop, path)
    stream.let.release()
    assert await spent(shop) == price(275, path)
    works = [sent for sent in shop.upstream.bodies if "output_config" not in sent]
    assert stream.closed.is_set() and len(works) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_a_count_that_comes_with_the_end_of_the_text_is_the_one_charged(shop: Shop, path: str) -> None:
    # No block has ended yet, but all that is left comes at once.
    stream = Stream(sse(start(FIRST), block(), delta("said")), sse(STOPPED, change(usage={"output_tokens": 3}), STOP))
    plays(shop, stream)
    await leave(shop, path)
    stream.let.release()
    assert await spent(shop) == price(3, path)


async def test_a_block_that_begins_shows_that_the_end_is_not_near(shop: Shop) -> None:
    more = sse(block(index=1), delta("and more", 1))
    stream = Stream(sse(start(FIRST), block(), delta("said"), STOPPED), more, sse(change(usage={"output_tokens": 900})))
    plays(shop, stream)
    await leave(shop)
    stream.let.release()
    await stream.closed.wait()
    assert await spent(shop) <= price(5)


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_last_count_the_provider_counts_the_text(shop: Shop, path: str) -> None:
    text = TEXTS["answer"] + "said"
    stream = Stream(sse(start(FIRST), block(), delta(text)))
    plays(shop, stream, counts=500)
    await leave(shop, path)
    # Six of them stand around the text.
    assert await spent(shop) == price(494, path)
    asked = json.loads(shop.upstream.requests[-1].content)
    assert asked == {"model": MODEL, "messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("counts", [None, 0, 10**9])
async def test_a_count_is_bounded_by_the_text_and_the_hold(shop: Shop, counts: int | None) -> None:
    text = TEXTS["answer"] + "said"
    plays(shop, Stream(sse(start(FIRST), block(), delta(text))), counts)
    await leave(shop)
    expected = {None: estimated_tokens(text), 0: 1, 10**9: len(text.encode())}[counts]
    assert await spent(shop) == price(expected)


async def test_a_count_that_does_not_come_is_not_waited_for_long(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivered_count, "_WITHIN_S", 0.05)
    text = TEXTS["story"] + "said"
    stream = Stream(sse(start(FIRST), block(), delta(text)))
    shop.upstream.reply = lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=stream)
    await leave(shop)
    assert await spent(shop) == price(estimated_tokens(text))


@pytest.mark.parametrize("kind", [kind for kind in TEXTS if kind != "table"])
async def test_what_can_not_be_counted_is_charged_within_15_percent_of_what_claude_counts(
    shop: Shop, kind: str
) -> None:
    plays(shop, Stream(sse(start(FIRST), block(), delta(TEXTS[kind]), delta("said"))))
    await leave(shop)
    assert await spent(shop) == pytest.approx(price(COUNTS[kind].claude), rel=0.15)


async def test_what_was_reported_before_is_the_least_that_is_charged(shop: Shop) -> None:
    told = sse(start({**FIRST, "output_tokens": 40}), block(), delta("said"))
    plays(shop, Stream(told))
    await leave(shop)
    assert await spent(shop) == price(40)

"""SDKs that give up waiting and send the same again, over real connections: one call to the model, and one debit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import anthropic
import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from starlette.requests import Request

from satmeter.actors.domain.session.messages import Relay
from satmeter.actors.messages import WireCommand
from satmeter.actors.router.router import Router
from satmeter.http.request.idempotency import attempt_of
from tests.helpers.conversations import Played
from tests.helpers.hosts import until
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

TIMEOUT_S = 0.4


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


class Attempts:
    """Counts what an SDK sends."""

    def __init__(self) -> None:
        self.numbers: list[str] = []

    async def note(self, request: Any) -> None:
        self.numbers.append(request.headers["x-stainless-retry-count"])

    async def wait_for(self, number: int) -> None:
        async def come() -> bool:
            return len(self.numbers) > number

        await until(come)


async def asked_by(library: str, shop: Shop, attempts: Attempts, retries: int = 2) -> str:
    """The answer that a real SDK gets which waits for so short a time."""
    if library == "anthropic":
        http = anthropic.DefaultAsyncHttpxClient(event_hooks={"request": [attempts.note]})
        async with shop.sdk(http_client=http, timeout=TIMEOUT_S, max_retries=retries) as client:
            said = (await client.messages.create(model=MODEL, max_tokens=500, messages=HELLO)).content[0]
            assert said.type == "text"
            return said.text
    import openai

    hooked = openai.DefaultAsyncHttpxClient(event_hooks={"request": [attempts.note]})
    url = f"{shop.url}/v1"
    options: Any = {"base_url": url, "api_key": shop.key, "timeout": TIMEOUT_S, "max_retries": retries}
    async with openai.AsyncOpenAI(http_client=hooked, **options) as chat:
        answer = await chat.chat.completions.create(model=MODEL, max_tokens=500, messages=HELLO)
    return answer.choices[0].message.content or ""


async def debits(shop: Shop) -> list[int]:
    await shop.until_free()
    return [entry["amountMsat"] for entry in await shop.ledger() if entry["kind"] == "debit"]


@pytest.mark.parametrize("library", ["anthropic", "openai"])
async def test_an_sdk_that_tries_again_gets_the_answer_of_its_first_call(shop: Shop, library: str) -> None:
    shop.upstream.gate.close()
    attempts = Attempts()
    asking = asyncio.create_task(asked_by(library, shop, attempts))
    await attempts.wait_for(1)
    shop.upstream.gate.open()
    assert "Hello, model" in await asking
    assert len(shop.upstream.requests) == 1 == len(await debits(shop))
    assert attempts.numbers in (["0", "1"], ["0", "1", "2"])


@pytest.mark.parametrize("library", ["anthropic", "openai"])
async def test_an_sdk_that_gives_up_for_good_pays_for_the_prompt_of_one_call(shop: Shop, library: str) -> None:
    shop.upstream.gate.close()
    with pytest.raises(Exception, match=r"timed out"):
        await asked_by(library, shop, Attempts(), retries=1)
    # The stub counts four bytes as a token: 3 of "Hello, model" at 2.8 msat, and infrastructure.
    assert await debits(shop) == [9 + 700]
    calls = [request for request in shop.upstream.requests if request.url.path == "/v1/messages"]
    assert (len(calls), shop.upstream.cut) == (1, 1)


async def test_a_client_that_is_no_sdk_ends_its_call_at_once(shop: Shop) -> None:
    shop.upstream.gate.close()
    headers = {"authorization": f"Bearer {shop.key}"}
    async with httpx.AsyncClient(base_url=shop.url, timeout=TIMEOUT_S) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/ask", json={"request": "say hello"}, headers=headers)
        assert len(await debits(shop)) == 1 == shop.upstream.cut


async def test_a_request_is_the_same_by_whichever_of_its_paths_it_comes(shop: Shop) -> None:
    shop.upstream.gate.close()
    headers = {"authorization": f"Bearer {shop.key}"}
    async with httpx.AsyncClient(base_url=shop.url, headers=headers, timeout=20) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(
                "/ask", json={"request": "say hello"}, headers={"x-stainless-retry-count": "0"}, timeout=TIMEOUT_S
            )
        shop.upstream.gate.open()
        body, path = {"request": "say hello", "stream": False}, f"/sessions/{shop.session_id}/request"
        answer = (await client.post(path, json=body, headers={"x-stainless-retry-count": "1"})).json()
    assert await debits(shop) == [answer["debitedMsat"]]
    assert len(shop.upstream.requests) == 2, "one evaluation, and one answer"


# What is the same


def request_of(path: str = "/v1/messages", query: str = "", **headers: str) -> Request:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "headers": sent, "query_string": query.encode(), "path": path}
    return Request({**scope, "route": type("Route", (), {"path": path})(), "server": ("x", 80), "scheme": "http"})


FIRST = {"x_api_key": "a", "x_stainless_retry_count": "0"}


def test_an_attempt_is_known_by_credential_path_body_and_what_the_provider_gets() -> None:
    first = attempt_of(request_of(**FIRST), None, b"{}")
    again = attempt_of(request_of(**{**FIRST, "x_stainless_retry_count": "2"}), None, b"{}")
    assert first is not None and again is not None
    assert (first.number, again.number, first.digest) == (0, 2, again.digest)
    others = [
        attempt_of(request_of(**{**FIRST, "x_api_key": "b"}), None, b"{}"),
        attempt_of(request_of(**FIRST, authorization="Bearer a"), None, b"{}"),
        attempt_of(request_of("/v1/chat/completions", **FIRST), None, b"{}"),
        attempt_of(request_of(query="beta=true", **FIRST), None, b"{}"),
        attempt_of(request_of(**FIRST, anthropic_beta="x"), None, b"{}"),
        attempt_of(request_of(**FIRST), None, b"{ }"),
    ]
    assert len({first.digest, *(other.digest for other in others if other)}) == 7


@pytest.mark.parametrize("count", ["", "-1", "one", "1.0", "99999", " 1"])
def test_what_counts_no_attempts_makes_none(count: str) -> None:
    assert attempt_of(request_of(x_stainless_retry_count=count), None, b"{}") is None


def test_a_client_with_a_key_of_its_own_needs_none() -> None:
    assert attempt_of(request_of(**FIRST), "key", b"{}") is None


@pytest.mark.parametrize("library", ["anthropic", "openai"])
async def test_an_sdk_that_asks_for_a_stream_again_before_its_head_came_gets_the_first_one(
    shop: Shop, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notice of the hold takes longer than the SDK waits, and the model is at work by then."""
    opened, attempts, arrived = Router.open, Attempts(), asyncio.Event()

    async def late(router: Router, actor_id: str, command: WireCommand) -> AsyncGenerator[Any, None]:
        async with aclosing(opened(router, actor_id, command)) as replies:
            async for reply in replies:
                if isinstance(command, Relay) and command.attempt is not None and command.attempt.number == 0:
                    arrived.set()
                    await asyncio.Event().wait()
                yield reply

    monkeypatch.setattr(Router, "open", lambda *call: Played(late(*call)))
    shop.upstream.gate.close()
    asking = asyncio.create_task(_streamed_by(library, shop, attempts))
    await arrived.wait()
    await attempts.wait_for(1)
    shop.upstream.gate.open()
    assert "Hello, model" in await asking
    assert len(shop.upstream.requests) == 1 == len(await debits(shop))


async def _streamed_by(library: str, shop: Shop, attempts: Attempts) -> str:
    if library == "anthropic":
        http = anthropic.DefaultAsyncHttpxClient(event_hooks={"request": [attempts.note]})
        async with (
            shop.sdk(http_client=http, timeout=TIMEOUT_S, max_retries=1) as client,
            client.messages.stream(model=MODEL, max_tokens=500, messages=HELLO) as stream,
        ):
            return await stream.get_final_text()
    import openai

    hooked = openai.DefaultAsyncHttpxClient(event_hooks={"request": [attempts.note]})
    options: Any = {"base_url": f"{shop.url}/v1", "api_key": shop.key, "timeout": TIMEOUT_S, "max_retries": 1}
    async with openai.AsyncOpenAI(http_client=hooked, **options) as chat:
        chunks = await chat.chat.completions.create(model=MODEL, max_tokens=500, messages=HELLO, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

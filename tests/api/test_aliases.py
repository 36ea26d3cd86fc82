"""Base URLs that are not quite right lead to the same answers, and other paths to a 404 in the format of their API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.helpers.http.fronts import CLIENT, api_over
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

CALL = {"model": MODEL, "max_tokens": 50, "messages": HELLO}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


@pytest.mark.parametrize("path", ["/v1/v1/messages", "//v1/messages", "/messages", "/v1/messages/"])
async def test_a_message_by_another_path_is_a_message(shop: Shop, path: str) -> None:
    answer = await shop.post(CALL, path)
    assert (answer.status_code, answer.json()["type"]) == (200, "message")
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


async def test_chats_and_models_have_such_paths_too(shop: Shop) -> None:
    answer = await shop.post(CALL, "/chat/completions")
    assert (answer.status_code, answer.json()["object"]) == (200, "chat.completion")
    assert (await shop.api.http.get("/models")).json() == (await shop.api.http.get("/v1/models")).json()
    assert (await shop.api.http.get(f"/models/{MODEL}/")).json()["id"] == MODEL


@pytest.mark.parametrize(("path", "status"), [("/healthz/", 200), ("//", 200), ("/jobs/", 405)])
async def test_a_slash_too_many_is_no_redirect(shop: Shop, path: str, status: int) -> None:
    assert (await shop.api.http.get(f"http://satmeter.test{path}")).status_code == status


async def test_the_sdk_works_with_a_base_url_that_ends_in_v1(shop: Shop) -> None:
    async with anthropic.AsyncAnthropic(base_url=f"{shop.url}/v1/", api_key=shop.key, max_retries=0) as sdk:
        assert (await sdk.messages.create(model=MODEL, max_tokens=50, messages=HELLO)).type == "message"


async def test_a_key_means_the_same_by_either_path(shop: Shop) -> None:
    first = await shop.post(CALL, "/messages", **{"idempotency-key": "mine"})
    again = await shop.post(CALL, "/v1/messages", **{"idempotency-key": "mine"})
    assert first.json() == again.json() and len(shop.upstream.requests) == 1


async def test_errors_have_the_format_of_the_path_that_was_meant(shop: Shop) -> None:
    bad = await shop.post({}, "/messages")
    assert (bad.status_code, bad.json()["error"]["type"]) == (400, "invalid_request_error")
    wrong = await shop.api.http.get("/chat/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    missing = await shop.post({}, "/messages/batches")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert "/v1/messages/batches" in missing.json()["error"]["message"]
    unknown = (await shop.post({}, "/embeddings")).json()
    assert unknown["type"] == "error" and unknown["error"]["code"] == "not_found"
    assert "/v1/embeddings" in unknown["error"]["message"]


@pytest.mark.parametrize("path", ["//metrics", "/metrics/", "/readyz/"])
async def test_the_operators_paths_have_no_others(shop: Shop, path: str) -> None:
    assert (await shop.api.http.get(f"http://satmeter.test{path}")).status_code == 404


async def test_the_page_behind_a_proxy_that_ends_tls_shows_https(redis: Redis) -> None:
    told = {"x-forwarded-proto": "https"}
    async with api_over(redis, trusted_proxies=(CLIENT,)) as api:
        assert "https://satmeter.test" in (await api.http.get("/", headers=told)).text
    async with api_over(redis) as api:
        assert "http://satmeter.test" in (await api.http.get("/", headers=told)).text


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/v1", "/v1/nothing", "/v1/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_of_these_apis_has_their_format_and_names_itself(
    shop: Shop, method: str, path: str
) -> None:
    answer = await shop.api.http.request(method, path)
    told = answer.json()
    assert (answer.status_code, told["code"], told["type"]) == (404, "not_found", "error")
    assert (told["error"]["type"], told["error"]["code"]) == ("not_found_error", "not_found")
    assert "There is no path /v1" in told["error"]["message"] and answer.headers["request-id"] == told["requestId"]

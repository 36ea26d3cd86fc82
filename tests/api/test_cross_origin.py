"""Pages of other origins may call the API from a browser, and read what it says, also in errors and streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.http.cors import EXPOSED
from tests.helpers.http.fronts import api_over
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

PAGE = "https://app.example"
CALL: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": HELLO}
ALLOW = "access-control-allow-origin"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "anthropic-version,authorization,content-type,x-stainless-arch,x-my-own",
}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


def any_page_may_read(answer: httpx.Response) -> None:
    assert answer.headers[ALLOW] == "*"
    assert answer.headers["access-control-expose-headers"] == ", ".join(EXPOSED)
    # Credentials are sent by the page itself, never by the browser.
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/ask", "/sessions", "/jobs", "/v1/none"])
async def test_a_browser_may_send_any_header_and_keeps_the_permission(shop: Shop, path: str) -> None:
    answer = await shop.api.http.options(path, headers=PREFLIGHT)
    assert answer.status_code == 200 and answer.headers[ALLOW] == "*"
    assert answer.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST, PUT, OPTIONS"
    assert answer.headers["access-control-max-age"] == "7200"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/v1/models", None, 200),
        ("POST", "/v1/messages", b"{}", 400),
        ("POST", "/sessions", b"x" * 1_100_000, 413),
        ("POST", "/v1/none", b"{}", 404),
        ("GET", "/v1/messages", None, 405),
        ("GET", "/sessions/ses_none", None, 401),
    ],
)
async def test_any_page_may_read_answers_and_errors(
    shop: Shop, method: str, path: str, content: bytes | None, status: int
) -> None:
    answer = await shop.api.http.request(method, path, content=content, headers={"origin": PAGE})
    assert answer.status_code == status
    any_page_may_read(answer)


async def test_any_page_may_read_challenges_streams_and_what_went_wrong_in_the_server(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = await shop.api.http.post("/v1/messages", json=CALL, headers={"origin": PAGE})
    assert challenge.status_code == 402 and challenge.headers["www-authenticate"].startswith("L402 ")
    any_page_may_read(challenge)
    stream = await shop.post({**CALL, "stream": True}, origin=PAGE)
    assert stream.headers["content-type"].startswith("text/event-stream")
    any_page_may_read(stream)
    answer = await shop.post(CALL, origin=PAGE)
    assert answer.headers["satmeter-debited-msat"]
    any_page_may_read(answer)
    monkeypatch.setattr(shop.api.state.prices, "current", None)
    broken = await shop.post(CALL, origin=PAGE)
    assert broken.status_code == 500
    any_page_may_read(broken)


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/operator", "/operator/sessions"])
async def test_no_page_reads_what_is_the_operators(shop: Shop, path: str) -> None:
    for answer in (
        await shop.api.http.get(path, headers={"origin": PAGE}),
        await shop.api.http.options(path, headers=PREFLIGHT),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_without_an_origin_nothing_changes(shop: Shop) -> None:
    for answer in (await shop.post(CALL), await shop.api.http.options("/v1/messages")):
        assert not {ALLOW, "vary"} & set(answer.headers)


async def test_every_header_of_the_document_can_be_read(shop: Shop) -> None:
    document = (await shop.api.http.get("/openapi.json")).json()
    told = {name.lower() for name in document["components"]["headers"]}
    assert told <= {name.lower() for name in EXPOSED}


async def test_origins_can_be_narrowed(redis: Redis) -> None:
    async with api_over(redis, cors_origins=(PAGE, "http://localhost:3000")) as api:
        allowed = await api.http.get("/v1/models", headers={"origin": PAGE})
        assert (allowed.headers[ALLOW], allowed.headers["vary"]) == (PAGE, "Origin")
        preflight = await api.http.options("/v1/messages", headers=PREFLIGHT)
        assert preflight.headers[ALLOW] == PAGE and "Origin" in preflight.headers["vary"]
        other = await api.http.get("/v1/models", headers={"origin": "https://other.example"})
        assert ALLOW not in other.headers and other.headers["vary"] == "Origin"
        # Its own answer to OPTIONS, as for a program.
        refused = await api.http.options("/v1/messages", headers={**PREFLIGHT, "origin": "https://other.example"})
        assert (refused.status_code, refused.headers["allow"]) == (204, "OPTIONS, POST")
        assert ALLOW not in refused.headers
        # A cache must not give this answer to a page.
        assert (await api.http.get("/v1/models")).headers["vary"] == "Origin"


async def test_other_origins_can_be_turned_off(redis: Redis) -> None:
    async with api_over(redis, cors_origins=()) as api:
        answer = await api.http.get("/v1/models", headers={"origin": PAGE})
        assert answer.status_code == 200 and ALLOW not in answer.headers


async def test_a_method_that_no_path_has_is_not_allowed(shop: Shop) -> None:
    headers = {**PREFLIGHT, "access-control-request-method": "PATCH"}
    answer = await shop.api.http.options("/v1/messages", headers=headers)
    assert answer.status_code == 204 and ALLOW not in answer.headers


async def test_preflights_are_counted_as_all_requests_are(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=1) as api:
        answers = [await api.http.options("/jobs", headers=PREFLIGHT) for _ in range(11)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429]
        assert ALLOW not in answers[-1].headers
        assert answers[-1].json()["code"] == "rate_limited"

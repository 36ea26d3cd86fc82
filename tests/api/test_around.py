"""The demo, prices, health, metrics and pages."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from decimal import Decimal

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.actors.domain.pricing import BtcPrice, PriceOrigin
from satmeter.actors.ports import PermanentError, TransientError
from satmeter.http.app import create_app
from tests.api.test_bad_input import assert_error
from tests.helpers.fakes import FixedPrices
from tests.helpers.http.fronts import AS_OPERATOR, OPERATOR_TOKEN, Api, api_over, client_of
from tests.helpers.jobs import START_MS

# Demo


async def test_the_demo_answers(api: Api) -> None:
    answer = await api.http.get("/demo", params={"request": "What is a satoshi? é😀"})
    assert (answer.status_code, answer.json()) == (200, {"result": "the answer"})
    assert api.world.model.completed == ["What is a satoshi? é😀"]


async def test_the_demo_is_free_five_times_an_hour_for_one_address_across_restarts(redis: Redis) -> None:
    async with api_over(redis) as api:
        for _ in range(3):
            assert (await api.http.get("/demo?request=x")).status_code == 200
    async with api_over(redis) as api:
        for _ in range(2):
            assert (await api.http.get("/demo?request=x")).status_code == 200
        refused = await api.http.get("/demo?request=x")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 3_590 <= int(refused.headers["retry-after"]) <= 3_600
        async with client_of(api.app, "203.0.113.9") as other:
            assert (await other.get("/demo?request=x")).status_code == 200
        api.world.offset_ms = 3_601_000
        assert (await api.http.get("/demo?request=x")).status_code == 200


async def test_the_demo_counts_an_ipv6_network_as_one_client(redis: Redis) -> None:
    async with (
        api_over(redis, demo_per_hour=1) as api,
        client_of(api.app, "2001:db8:1:2::3") as one,
        client_of(api.app, "2001:db8:1:2:ffff::4") as other,
    ):
        assert (await one.get("/demo?request=x")).status_code == 200
        assert (await other.get("/demo?request=x")).status_code == 429


@pytest.mark.parametrize("query", ["", "?request=", "?request=%20", f"?request={'x' * 1_001}", "?request=a&request=b"])
async def test_a_demo_request_must_be_there_once_and_be_short(redis: Redis, query: str) -> None:
    async with api_over(redis, demo_per_hour=1) as api:
        answer = await api.http.get(f"/demo{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.json()["fields"][0]["path"] == "request"
        assert (await api.http.get(f"/demo?request={'x' * 1_000}")).status_code == 200, "a refused one was counted"


async def test_a_head_of_the_demo_asks_no_model_and_is_not_counted(redis: Redis) -> None:
    async with api_over(redis, demo_per_hour=1) as api:
        answer = await api.http.head("/demo?request=x")
        assert answer.status_code == 200 and "content-length" not in answer.headers
        assert api.world.model.completed == []
        assert (await api.http.get("/demo?request=x")).status_code == 200


async def test_a_model_that_refuses_is_a_502_and_one_that_is_down_a_503(api: Api) -> None:
    api.world.model.faults.append(PermanentError("a text of the provider"))
    refused = await api.http.get("/demo?request=x")
    assert (refused.status_code, refused.json()["code"]) == (502, "model_failed")
    api.world.model.faults.append(TransientError("a text of the provider"))
    down = await api.http.get("/demo?request=x")
    assert (down.status_code, down.json()["code"]) == (503, "unavailable")
    assert int(down.headers["retry-after"]) > 0
    assert "provider" not in down.text and "text of the" not in refused.text


# Prices


async def test_prices_show_all_that_a_price_depends_on(redis: Redis) -> None:
    async with api_over(redis, eval_fee_sats=12) as api:
        price = BtcPrice(Decimal("98765.43"), PriceOrigin.COINGECKO, START_MS)
        state = replace(api.state, prices=FixedPrices(price), now_ms=lambda: START_MS + 42_900)
        async with client_of(create_app(state)) as http:
            shown = (await http.get("/pricing")).json()
    assert shown["btcPrice"] == {
        "usd": "98765.43",
        "source": "coingecko",
        "at": "2027-01-15T08:00:00.000Z",
        "ageS": 42,
    }
    assert (shown["evalModel"], shown["workModel"]) == ("claude-haiku-5-5", "claude-sonnet-5-5")
    assert (shown["marginPct"], shown["infraCostUsd"], shown["evalFeeSats"]) == (40, "0.0005", 12)
    assert shown["tiers"]["small"] == {"inputTokens": 300, "outputTokens": 500, "maxTokens": 1_000}
    by_model = {model["model"]: model for model in shown["models"]}
    assert by_model["claude-sonnet-5-5"] == {
        "model": "claude-sonnet-5-5",
        "rates": {
            "input": "2.00",
            "output": "10.00",
            "cacheRead": "0.1",
            "cacheWrite5m": "2.5",
            "cacheWrite1h": "4.00",
        },
        "multipliers": {"inference_geo_us": "1.1"},
        "contextTokens": 1_000_000,
        "maxOutputTokens": 128_000,
        "upstreams": ["anthropic"],
        "webSearchPer1000Usd": "10.00",
    }
    assert by_model["claude-haiku-5-5"]["longPromptRates"]["thresholdTokens"] == 100_000


async def test_the_price_of_a_clock_that_is_ahead_is_not_of_the_future(api: Api) -> None:
    state = replace(api.state, now_ms=lambda: START_MS - 5_000)
    async with client_of(create_app(state)) as http:
        assert (await http.get("/pricing")).json()["btcPrice"]["ageS"] == 0


# Health


async def test_the_process_is_healthy_while_all_else_is_down(api: Api) -> None:
    state = replace(api.state, checks={"store": _down, "actors": _down, "lightning": _down})
    async with client_of(create_app(state)) as http:
        answer = await http.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readiness_shows_all_parts(api: Api) -> None:
    answer = await api.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "checks": {"store": "ok", "actors": "ok", "lightning": "ok", "model": "ok"},
    }


async def _down() -> None:
    raise TransientError("no connection to 10.1.2.3")


async def test_readiness_names_the_parts_that_can_t_be_reached(api: Api) -> None:
    state = replace(api.state, checks={**api.state.checks, "store": _down, "lightning": _down})
    async with client_of(create_app(state)) as http:
        answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.json()["unreachable"] == ["store", "lightning"]
    assert answer.json()["error"] == "The store and the Lightning node can't be reached just now."
    assert int(answer.headers["retry-after"]) > 0
    assert "10.1.2.3" not in answer.text


async def test_readiness_says_what_ails_the_store_where_that_is_known(api: Api) -> None:
    ailing = replace(api.state, store_trouble=lambda: "the disk that it writes to is full")
    for checks, expected in (
        ({"store": _down}, "The store can't be reached just now: the disk that it writes to is full."),
        ({"lightning": _down}, "The Lightning node can't be reached just now."),
    ):
        async with client_of(create_app(replace(ailing, checks={**api.state.checks, **checks}))) as http:
            assert (await http.get("/readyz")).json()["error"] == expected


async def test_the_log_tells_once_that_a_part_is_not_ready_and_once_that_it_is_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.http.service.health._HOLDS_S", -1)
    reaches = iter((False, False, True, True, False))

    async def flapping() -> None:
        if not next(reaches):
            raise TransientError("no connection to 10.1.2.3")

    async with client_of(create_app(replace(api.state, checks={"lightning": flapping}))) as http:
        with capture_logs() as logged:
            statuses = [(await http.get("/readyz")).status_code for _ in range(5)]
    assert statuses == [503, 503, 200, 200, 503]
    told = [(line["event"], line["part"]) for line in logged if "part" in line]
    assert told == [("part_not_ready", "lightning"), ("part_back", "lightning"), ("part_not_ready", "lightning")]


async def test_many_who_ask_for_readiness_at_once_ask_each_part_once(api: Api) -> None:
    asked, go_on = [], asyncio.Event()

    async def slow() -> None:
        asked.append(1)
        await go_on.wait()

    async with client_of(create_app(replace(api.state, checks={"lightning": slow}))) as http:
        answers = [asyncio.create_task(http.get("/readyz")) for _ in range(5)]
        await asyncio.sleep(0)
        go_on.set()
        assert [(await answer).status_code for answer in answers] == [200] * 5
    assert len(asked) == 1


# Metrics and pages


async def test_metrics_count_by_route_and_never_by_path(api: Api) -> None:
    await api.complete()
    await api.http.get("/nothing/here")
    await api.http.request("BREW", "/jobs")
    answer = await api.http.get("/metrics", headers=AS_OPERATOR)
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'satmeter_http_requests_total{method="POST",route="/jobs",status="201"} 1.0' in answer.text
    assert 'satmeter_http_requests_total{method="GET",route="none",status="404"} 1.0' in answer.text
    assert 'satmeter_http_requests_total{method="other",route="/jobs",status="405"} 1.0' in answer.text
    assert 'satmeter_http_request_seconds_count{method="GET",route="/jobs/{jobId}"}' in answer.text
    assert "satmeter_http_requests_in_progress 1.0" in answer.text
    assert "job_" not in answer.text and "/nothing" not in answer.text


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_load_nothing_from_elsewhere_and_hold_the_browser_to_it(api: Api, path: str) -> None:
    answer = await api.http.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert re.findall(r"srcset\s*=|action\s*=|<iframe|@import|url\(|\bon[a-z]+\s*=|\bstyle\s*=", answer.text) == []
    loaded = re.findall(r"<(?:link|script|img)[^>]*(?:href|src)=\"([^\"]+)\"", answer.text)
    ours = [address for address in loaded if address.startswith("/assets/")]
    assert set(loaded) == {"data:,", *ours} and len(ours) == (2 if path == "/" else 0)
    for address in ours:
        assert (await api.http.get(address)).status_code == 200


async def test_documentation_has_no_script(api: Api) -> None:
    answer = await api.http.get("/docs")
    assert "<script" not in answer.text and "script-src" not in answer.headers["content-security-policy"]


async def test_assets_are_kept_for_good_under_their_digest_and_not_under_another(api: Api) -> None:
    (module,) = re.findall(r"<script type=\"module\" src=\"([^\"]+)\"></script>", (await api.http.get("/")).text)
    asset = await api.http.get(module)
    assert asset.headers["content-type"].startswith("text/javascript")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    imported = re.findall(r"from \"\./([a-z.-]+)\"", asset.text)
    assert "session.js" in imported
    digest = module.split("/")[2]
    for name in imported:
        assert (await api.http.get(f"/assets/{digest}/{name}")).headers["cache-control"].endswith("immutable")
    assert (await api.http.get("/assets/another/home.js")).headers["cache-control"] == "no-store"
    for name in ("..%2Fhome.py", "home.py", "markdown-it.LICENSE.txt", ""):
        assert (await api.http.get(f"/assets/{digest}/{name}")).status_code == 404


async def test_the_first_page_shows_how_to_begin_at_this_very_server(api: Api) -> None:
    page = (await api.http.get("/", headers={"Host": "pay.example:8402"})).text
    assert "curl http://pay.example:8402/jobs" in page
    assert 'href="/docs"' in page and 'href="/pricing"' in page
    assert "/dev/stub/pay/" in page and 'data-stub="yes"' in page
    async with client_of(create_app(replace(api.state, stub_node=None))) as http:
        page = (await http.get("/")).text
        assert "/dev/" not in page and 'data-stub="no"' in page


async def test_the_first_page_is_of_use_without_javascript(api: Api) -> None:
    page = (await api.http.get("/", headers={"Host": "pay.example"})).text
    (without,) = re.findall(r"<noscript>(.*?)</noscript>", page, re.DOTALL)
    for path in ("/jobs", "/sessions", "/sessions/&lt;sessionId&gt;/request", "/sessions/&lt;sessionId&gt;/close"):
        assert f"curl http://pay.example{path} " in without


async def test_a_host_header_can_t_put_markup_into_the_page(api: Api) -> None:
    page = (await api.http.get("/", headers={"Host": "<script>alert(1)</script>"})).text
    assert "<script>" not in page and page.count("<script") == 1


@pytest.mark.parametrize("header", [None, "Bearer another", "Bearer ", "Basic eDp5", OPERATOR_TOKEN])
async def test_metrics_are_not_for_strangers(api: Api, header: str | None) -> None:
    answer = await api.http.get("/metrics", headers={} if header is None else {"Authorization": header})
    assert_error(answer, 401, "missing_credential" if header is None else "invalid_credential")


async def test_without_a_token_there_is_no_operator(redis: Redis) -> None:
    async with api_over(redis, operator_token=None) as api:
        for header in ("Bearer ", "Bearer None"):
            assert (await api.http.get("/metrics", headers={"Authorization": header})).status_code == 401

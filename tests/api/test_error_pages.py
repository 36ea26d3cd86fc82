"""Errors as a browser gets them: a page at an address that a person opens, JSON on all paths of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.errors import unavailable
from satmeter.actors.domain.payments.invoices import ShowInvoice
from satmeter.http.pages.error_page import API
from satmeter.http.payments.pay_pages import PayPages
from tests.api.test_bad_input import assert_error
from tests.helpers.http.fronts import Api, api_over
from tests.helpers.http.stubs import SESSION, stubbed
from tests.helpers.jobs import EVAL_INVOICE

BROWSER = {
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "sec-fetch-mode": "navigate",
}
# What Java's HttpURLConnection sends by itself.
JAVA = {"accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis) as front:
        yield front


@pytest.mark.parametrize("path", ["/pay/x", f"/pay/{'A' * 68}", "/nothing", "/operator/nothing"])
async def test_a_browser_gets_a_page_and_a_program_json(api: Api, path: str) -> None:
    page = await api.http.get(path, headers=BROWSER)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert page.headers["x-request-id"] in page.text and page.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in page.headers["content-security-policy"] and path not in page.text
    for headers in ({}, {"accept": "application/json"}, {"accept": "text/html, */*"}, JAVA):
        assert_error(await api.http.get(path, headers=headers), 404, "not_found")


async def test_every_path_of_the_api_has_json_errors_whatever_is_accepted(api: Api) -> None:
    paths = (await api.http.get("/openapi.json")).json()["paths"]
    seen = set()
    for path, operations in paths.items():
        for method, operation in operations.items():
            if "text/html" in operation["responses"]["200" if "200" in operation["responses"] else "201"]["content"]:
                assert all("text/html" in operation["responses"][each]["content"] for each in ("429", "500"))
                continue
            first = path.split("/")[1]
            seen.add(first)
            answer = await api.http.request(method, path.replace("{", "%7B").replace("}", "%7D"), headers=BROWSER)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/json", path
                assert answer.json()["requestId"] == answer.headers["x-request-id"]
    assert seen - {"pay"} == API
    for path in ("/v1/nothing", "/sessions/x/y/z", "/jobs", "/dev/nothing", "/assets/x/y"):
        answer = await api.http.get(path, headers=BROWSER)
        assert answer.status_code in (404, 405) and answer.headers["content-type"] == "application/json", path


async def test_an_invoice_that_can_not_be_seen_just_now_has_a_page_to_try_again_from() -> None:
    async with stubbed() as front:
        front.plays(ShowInvoice, unavailable("The store"))
        path = PayPages(front.state).path(SESSION, EVAL_INVOICE.payment_hash)
        page = await front.http.get(path, headers=BROWSER)
        assert page.status_code == 503 and '<a class="button" href="">Try again</a>' in page.text
        assert page.headers["retry-after"]


async def test_an_address_over_its_limit_reads_when_to_come_back(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=1) as api:
        for _ in range(10):
            await api.http.get("/healthz")
        page = await api.http.get("/", headers=BROWSER)
        assert page.status_code == 429 and "Too many requests" in page.text
        assert_error(await api.http.get("/pricing", headers=BROWSER), 429, "rate_limited")

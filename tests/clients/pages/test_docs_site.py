"""The built site in Chromium: accessibility, widths, foreign requests, the search, and the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.helpers import docs_site
from tests.helpers.served import Served

PAGES: Final = ("", "faq/", "api/", "start/", "how-it-works/", "guarantees/", "reference/")
# Rules that Swagger UI breaks, and that can't be mended from here: a path's button holds a link and one that copies it.
OF_SWAGGER_UI: Final = frozenset({"nested-interactive"})


@pytest.fixture(scope="module")
def axe(modules: Path) -> str:
    return (modules / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = docs_site.build(folder)
    assert done.returncode == 0, done.stderr
    with docs_site.serving(folder) as served_at:
        yield served_at


class _Visit:
    """A page, and what it asked other hosts for, or complained of."""

    def __init__(self, browser: Browser, address: str, width: int, scheme: str = "light", also: str = "") -> None:
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        dark = scheme == "dark"
        viewport: ViewportSize = {"width": width, "height": 900}
        self.page = browser.new_page(viewport=viewport, color_scheme="dark" if dark else "light")
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

        def let(route: Any) -> None:
            url = route.request.url
            if url.startswith((f"{address}/", "data:", "blob:")) or (also and url.startswith(also)):
                route.continue_()
            else:
                self.foreign.append(url)
                route.abort()

        self.page.route("**/*", let)

    def sound(self) -> None:
        assert self.foreign == []
        assert self.complaints == []
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"the page is {wide} px wider than the screen"


def _violations(page: Page, axe: str, accepted: frozenset[str]) -> list[str]:
    # Before `axe.run`, so that nothing is half faded in.
    page.wait_for_load_state("networkidle")
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['target']} {node['html'][:120]}"
        for rule in found["violations"]
        if rule["id"] not in accepted
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_pages_are_accessible_and_fit_and_ask_no_other_host(
    browser: Browser, axe: str, address: str, width: int, scheme: str
) -> None:
    visit = _Visit(browser, address, width, scheme)
    found = []
    for name in PAGES:
        visit.page.goto(f"{address}/{name}")
        accepted = OF_SWAGGER_UI if name == "reference/" else frozenset()
        found += [f"/{name} {violation}" for violation in _violations(visit.page, axe, accepted)]
        visit.sound()
    visit.page.close()
    assert found == []


def test_the_search_finds_refunds(browser: Browser, address: str) -> None:
    visit = _Visit(browser, address, 1280)
    visit.page.goto(f"{address}/")
    visit.page.locator("input[name=query]").fill("refund")
    results = visit.page.locator(".md-search-result__item a").first
    results.wait_for()
    links = [link.get_attribute("href") or "" for link in visit.page.locator(".md-search-result__link").all()]
    assert any("http-api/" in link for link in links)
    visit.sound()
    visit.page.close()


def test_the_reference_searches_and_asks_the_reader_s_own_server(browser: Browser, address: str, site: Served) -> None:
    visit = _Visit(browser, address, 390, also=site.url)
    page = visit.page
    page.goto(f"{address}/reference/")
    page.get_by_label("Requests go from this browser").fill(site.url)
    page.get_by_role("button", name="Use this server").click()
    expect(page.get_by_text(f"Reached {site.url}.")).to_be_visible()
    page.get_by_label("Search paths").fill("ledger")
    expect(page.locator(".opblock")).to_have_count(1)

    opened = site.client.post("/sessions", json={"amountSats": 100}).json()
    page.get_by_role("button", name="Authorize").click()
    page.locator(".modal-ux input").first.fill(opened["macaroon"])
    page.locator(".modal-ux").get_by_role("button", name="Apply credentials").first.click()
    page.locator(".modal-ux").get_by_role("button", name="Close").first.click()
    page.get_by_label("Search paths").fill("look at a session")
    page.locator("#operations-Sessions-getSession .opblock-summary-path").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_placeholder("sessionId").fill(opened["sessionId"])
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text('"awaiting_payment"')
    visit.sound()
    page.close()

"""The built site in Chromium: accessibility, widths, foreign requests, the search, and the reference."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.helpers import docs_site

PAGES: Final = ("", "faq/", "api/", "start/", "how-it-works/", "guarantees/")
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


def _violations(page: Page, axe: str, accepted: frozenset[str] = frozenset()) -> list[str]:
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
        found += [f"/{name} {violation}" for violation in _violations(visit.page, axe)]
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


class _Server(BaseHTTPRequestHandler):
    """A server of the reader's own, as far as the reference asks it."""

    asked: list[tuple[str, str, str | None]]

    def do_OPTIONS(self) -> None:
        self._answer(204, b"")

    def do_GET(self) -> None:
        self.asked.append(("GET", self.path, self.headers.get("authorization")))
        self._answer(200, json.dumps({"answered": self.path}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name in ("Origin", "Headers", "Methods"):
            self.send_header(f"Access-Control-Allow-{name}", "*")
        self.send_header("Access-Control-Allow-Headers", "authorization")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def asked() -> list[tuple[str, str, str | None]]:
    return []


@pytest.fixture
def own_server(asked: list[tuple[str, str, str | None]]) -> Iterator[str]:
    handler = type("Handler", (_Server,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_reference_searches_and_asks_the_reader_s_own_server(
    browser: Browser,
    axe: str,
    address: str,
    own_server: str,
    asked: list[tuple[str, str, str | None]],
    width: int,
    scheme: str,
) -> None:
    visit = _Visit(browser, address, width, scheme, also=own_server)
    page = visit.page
    page.goto(f"{address}/reference/")
    page.get_by_label("Requests go from this browser").fill(own_server)
    page.get_by_role("button", name="Use this server").click()
    page.get_by_text(f"Reached {own_server}.").wait_for()
    page.get_by_label("Search paths").fill("ledger")
    expect(page.locator(".opblock")).to_have_count(1)
    assert _violations(page, axe, OF_SWAGGER_UI) == []
    page.get_by_label("Search paths").fill("/pricing")
    expect(page.locator(".opblock-summary-path")).to_contain_text(["/pricing"])
    page.locator(".opblock-summary-path", has_text="/pricing").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    page.get_by_text('"answered"').first.wait_for()
    assert ("GET", "/pricing", None) in asked
    visit.sound()
    page.close()

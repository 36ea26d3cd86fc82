"""Error pages are for a browser outside the API's paths, and say what to do without a word of the request."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Scope

from satmeter.http.pages.error_page import error_page, is_for_a_person

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
BODY: dict[str, Any] = {"error": "A sentence.", "code": "not_found", "requestId": "req_x"}


NAVIGATES = (b"sec-fetch-mode", b"navigate")


def scope(path: str, accept: str = BROWSER, method: str = "GET", *more: tuple[bytes, bytes]) -> Scope:
    headers = [(b"accept", accept.encode("latin-1")), *(more or (NAVIGATES,))]
    return {"type": "http", "path": path, "method": method, "headers": headers}


@pytest.mark.parametrize("path", ["/", "/docs", "/pay/x", "/pay/x/", "/pay", "/operator", "/nothing", "/job/x", "/é"])
def test_a_browser_gets_a_page_where_the_api_has_no_path(path: str) -> None:
    assert is_for_a_person(scope(path))
    assert is_for_a_person(scope(path, method="HEAD"))


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/x",
        "/jobs/",
        "//jobs",
        "/sessions",
        "/v1",
        "/v1/v1/models",
        "/chat/completions",
        "/messages/x",
        "/demo",
        "/dev/x",
        "/pay/x/invoice",
        "/pay/x/qr.svg",
        "/lnurl/withdraw/x",
        "/.well-known/x",
        "/assets/x/y",
    ],
)
def test_a_path_of_the_api_never_has_a_page(path: str) -> None:
    assert not is_for_a_person(scope(path))


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=none", False),
        ("text/html;q=nan", False),
        ("text/*", False),
        ("image/avif,image/webp,*/*;q=0.8", False),
        ("text/event-stream", False),
        (f"text/html{',' * 65_000}", False),
        ("TEXT/HTML", True),
        ("application/json;q=0.5, text/html", True),
        ("text/html ; q=0.5", True),
    ],
)
def test_only_a_client_that_names_html_first_gets_a_page(accept: str, page: bool) -> None:
    assert is_for_a_person(scope("/nothing", accept)) is page


@pytest.mark.parametrize(
    ("header", "page"),
    [
        # Without TLS a browser sends no Sec-Fetch-Mode.
        ((b"upgrade-insecure-requests", b"1"), True),
        # A script of a page.
        ((b"sec-fetch-mode", b"cors"), False),
        # Java's HttpURLConnection, and whatever else accepts HTML without being asked.
        ((b"user-agent", b"Java/17"), False),
    ],
)
def test_only_a_browser_that_opens_an_address_gets_a_page(header: tuple[bytes, bytes], page: bool) -> None:
    assert is_for_a_person(scope("/nothing", BROWSER, "GET", header)) is page
    assert is_for_a_person(scope("/operator/sign-in", BROWSER, "POST", header)) is page


def test_a_request_without_a_path_has_no_page() -> None:
    assert not is_for_a_person(scope("*", method="OPTIONS"))


def test_without_an_accept_header_it_is_json() -> None:
    assert not is_for_a_person({"type": "http", "path": "/nothing", "method": "GET", "headers": [NAVIGATES]})


def test_a_post_has_a_page_at_the_operators_forms_alone() -> None:
    assert is_for_a_person(scope("/operator/sign-in", method="POST"))
    assert not is_for_a_person(scope("/nothing", method="POST"))


@pytest.mark.parametrize(
    ("path", "status", "body", "words"),
    [
        ("/pay/x", 404, {}, "ask there for a new invoice"),
        ("/nothing", 404, {}, "There is no such page"),
        ("/operator/sign-in", 405, {"code": "method_not_allowed"}, 'href="/operator"'),
        ("/", 429, {"code": "rate_limited", "retryAfterSeconds": 7}, "Wait 7 seconds, then try again."),
        ("/pay/x", 503, {"code": "unavailable"}, "Try again in a minute."),
        ("/pay/x", 503, {"code": "overloaded", "retryAfterSeconds": 1}, "Try again in a second."),
        ("/pay/x", 503, {"code": "overloaded", "retryAfterSeconds": 121}, "Try again in 3 minutes."),
        ("/", 500, {"code": "internal_error"}, "Something went wrong in the server"),
        ("/docs", 431, {"code": "headers_too_large"}, "A sentence."),
    ],
)
def test_it_says_what_happened_and_what_to_do_next(path: str, status: int, body: dict[str, Any], words: str) -> None:
    answer = error_page(path, status, {**BODY, **body}, {"Retry-After": "7"})
    text = bytes(answer.body).decode()
    assert answer.status_code == status and words in text and "<code>req_x</code>" in text
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("7", "no-store")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert answer.headers["x-robots-tag"] == "noindex" and "<script" not in text


def test_what_a_request_or_a_refusal_says_is_text() -> None:
    evil = "<img src=x onerror=alert(1)>"
    body = {**BODY, "error": evil, "code": "unavailable", "requestId": evil}
    assert evil not in bytes(error_page(f"/{evil}", 503, body, {}).body).decode()

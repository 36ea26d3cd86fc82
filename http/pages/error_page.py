"""Error pages: what a person's browser shows in place of an error's JSON.

Programs get JSON on every path. A page is for a browser that opens an address, and only where the API has no paths: an
address that a person follows or mistypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from ...actors.domain.errors import Code
from ..aliases import meant
from ..response.errors import RETRY_AFTER
from .html import page

API: Final = frozenset(
    {
        ".well-known",
        "ask",
        "assets",
        "demo",
        "dev",
        "healthz",
        "jobs",
        "lnurl",
        "metrics",
        "openapi.json",
        "pricing",
        "readyz",
        "sessions",
        "v1",
    }
)
"""First segments of the paths whose errors are JSON whatever a client accepts."""
_PAY: Final = "pay"
_OPERATOR: Final = "operator"
_READS: Final = frozenset({"GET", "HEAD"})
_HTML: Final = "text/html"
_JSON: Final = "application/json"
# Browsers name a dozen types. To read 64 KiB of them would take as long as a hundred requests.
_ACCEPT_CHARS_MAX: Final = 1_024
_LOST: Final = "What you paid is not lost."
_MINUTE_S: Final = 60


class _Words(NamedTuple):
    heading: str
    happened: str
    next: str
    again: bool = False


_NO_INVOICE: Final = _Words(
    "There is no invoice here",
    "This address leads to none of this server\u2019s invoices. It may be cut off, or its time was over long ago.",
    "Copy the whole address once more from where you got it, or ask there for a new invoice. If you have paid already, "
    "go back there as well: a payment that arrived counts, and needs no page.",
)
_NO_PAGE: Final = _Words(
    "There is no such page",
    "The address may be mistyped, or cut off at its end.",
    "Look at it again where you got it, or begin on the first page.",
)
_NOT_A_PAGE: Final = _Words(
    "This address is not a page",
    "It only takes what the form of a page sends.",
    "Go to the page with the form.",
)
_DEFECT: Final = _Words(
    "Something went wrong in the server",
    "The fault is the server\u2019s, and not in what you did.",
    f"Try again in a minute. {_LOST}",
    again=True,
)


def is_for_a_person(scope: Scope) -> bool:
    """Return whether an error of this request is shown as a page."""
    first, *more = _segments(scope["path"])
    if first in API or (first == _PAY and len(more) > 1):
        return False
    headers = Headers(scope=scope)
    return (scope["method"] in _READS or first == _OPERATOR) and _navigates(headers) and _prefers_html(headers)


def _segments(path: str) -> list[str]:
    return meant(path).removeprefix("/").split("/")


def _navigates(headers: Headers) -> bool:
    """Return whether a browser opens an address. Some programs accept HTML without being asked, as Java's do.

    Browsers leave out the first of these headers where there is no TLS.
    """
    mode = headers.get("sec-fetch-mode")
    return mode == "navigate" if mode is not None else headers.get("upgrade-insecure-requests") == "1"


def _prefers_html(headers: Headers) -> bool:
    """Return whether the client names `text/html`, and JSON after it or not at all."""
    accepted = ",".join(headers.getlist("accept"))
    if len(accepted) > _ACCEPT_CHARS_MAX:
        return False
    qualities = dict(_quality(part) for part in accepted.split(","))
    return qualities.get(_HTML, 0.0) > qualities.get(_JSON, 0.0)


def _quality(part: str) -> tuple[str, float]:
    media, *parameters = (word.strip().lower() for word in part.split(";"))
    weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
    try:
        return media, float(weight)
    except ValueError:
        return media, 0.0


def error_page(path: str, status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """Return the page for an error on this path, by its body in this server's own format."""
    first = _segments(path)[0]
    words = _words(first, status, body)
    operators = first == _OPERATOR
    link = ("/operator", "Operator\u2019s page") if operators else ("/", "First page")
    # An empty address is that of the page itself.
    links = [("", "Try again"), link] if words.again else [link]
    answer = page(
        f"{words.heading} \u00b7 Satmeter",
        f'<p class="soft">Satmeter</p>\n'
        f"<h1>{escape(words.heading)}</h1>\n<p>{escape(words.happened)}</p>\n<p>{escape(words.next)}</p>\n"
        f'<p class="ways">{" ".join(_link(*each) for each in links)}</p>\n'
        f'<p class="soft">If you ask the operator about it, name this: <code>{escape(body["requestId"])}</code></p>',
    )
    answer.status_code = status
    answer.headers.update({**headers, "Cache-Control": "no-store", "X-Robots-Tag": "noindex"})
    return answer


def _link(address: str, name: str) -> str:
    return f'<a class="button" href="{address}">{name}</a>'


def _words(first: str, status: int, body: Mapping[str, Any]) -> _Words:
    code, message = body["code"], body["error"]
    wait = _time(body.get(RETRY_AFTER))
    if code == Code.NOT_FOUND:
        return _NO_INVOICE if first == _PAY else _NO_PAGE
    if code == Code.METHOD_NOT_ALLOWED:
        return _NOT_A_PAGE
    if code == Code.RATE_LIMITED:
        told = "They came from your network, which others may share with you."
        return _Words("Too many requests", told, f"Wait {wait}, then try again. {_LOST}", again=True)
    if status >= 500 and code in (Code.UNAVAILABLE, Code.OVERLOADED):
        heading = "The server can\u2019t show this just now"
        return _Words(heading, message, f"Try again in {wait}. {_LOST}", again=True)
    return _DEFECT if status >= 500 else _Words("That did not work", message, _NO_PAGE.next, again=True)


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "a minute"
    if seconds == 1:
        return "a second"
    return f"{seconds} seconds" if seconds < 2 * _MINUTE_S else f"{-(-seconds // _MINUTE_S)} minutes"

"""One job and one session in other engines than Chromium's: Firefox, and WebKit, which all browsers of an iPhone have.

They are the system's own, and these tests are skipped without them. Debian has both:
`apt-get install firefox-esr webkit2gtk-driver xvfb`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.pages import engines
from tests.clients.pages.engines import Browser
from tests.clients.pages.visits import ScriptedModel
from tests.helpers.served import Served

MARKDOWN = "# A note\n\nThank you for the **plants**.\n\n- roses\n- tulips\n"


# Skipped before the server starts.
FIREFOX, WEBKIT = engines.firefox(), engines.webkit()
NO_FIREFOX = pytest.mark.skipif(FIREFOX is None, reason="needs Firefox: install Debian's package `firefox-esr`")
NO_WEBKIT = pytest.mark.skipif(
    WEBKIT is None, reason="needs WebKitGTK: install Debian's packages `webkit2gtk-driver` and `xvfb`"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((engines.running_firefox, FIREFOX), id="Firefox", marks=NO_FIREFOX),
        pytest.param((engines.running_webkit, WEBKIT), id="WebKit", marks=NO_WEBKIT),
    ],
)
def browser_of_an_engine(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Browser with a window as narrow as a phone."""
    running, program = request.param
    with running(program) as browser:
        yield browser


@pytest.fixture
def page(browser_of_an_engine: Browser, site: Served, model: ScriptedModel) -> Iterator[Browser]:
    """The first page in it. At the end no page may have had an error in its console."""
    model.says(MARKDOWN)
    browser_of_an_engine.go(f"{site.url}/docs")
    browser_of_an_engine.size(390, 844)
    browser_of_an_engine.run("localStorage.clear(); sessionStorage.clear();")
    browser_of_an_engine.go(f"{site.url}/")
    yield browser_of_an_engine
    assert not browser_of_an_engine.errors()


def _fits(page: Browser) -> None:
    """Fail if the page is wider than its window, or if a picture of it did not load."""
    wide, room = page.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide <= room
    page.wait(
        lambda: page.run("return [...document.images].every((one) => one.complete && one.naturalWidth > 0)"),
        "the pictures",
    )


def _take_an_invoice(page: Browser) -> None:
    page.click("button", "Use an invoice of the stub")
    filled = "return [...document.querySelectorAll('input')].some((one) => one.value.startsWith('ln'))"
    page.wait(lambda: page.run(filled), "an invoice in the field")


def test_a_job(page: Browser) -> None:
    page.click("a", "One job")
    page.see("A short answer")
    page.write("textarea", "Your request", "Write a thank-you note to my neighbour who watered the plants.")
    page.click("button", "Show the invoice")
    page.see("Pay for the evaluation")
    page.see("Good for")
    _fits(page)
    # The rest comes by the event stream.
    page.click("button", "Pay with the stub")
    page.see("Your work has a price")
    page.click("summary", "Why this price?")
    page.see("is expected to read")
    page.reload()
    page.see("Your work has a price")
    page.click("button", "Pay with the stub")
    page.see("Here is your result")
    assert page.run("return document.querySelector('.result strong').textContent") == "plants"
    page.see("Scan this to take it back")
    _fits(page)
    _take_an_invoice(page)
    page.click("button", "Pay it back")
    page.see("sats paid back")
    page.click("a", "Another job")
    page.see("Your jobs in this browser")


def test_a_session(page: Browser) -> None:
    page.click("button", "Show the invoice")
    page.see("Pay once, then chat")
    page.see("Good for")
    _fits(page)
    page.reload()
    page.see("Pay once, then chat")
    page.click("button", "Pay with the stub")
    page.see("500 sats left")
    page.write("textarea", "Your message", "What is a satoshi?")
    page.click("button", "Send")
    page.see("Thank you for the plants.")
    page.see("sats spent")
    # The conversation is long enough now to hide the form behind the field for messages.
    page.click("button", "Top up")
    page.click("button", "Show the invoice")
    page.see("Good for")
    page.reload()
    page.see("Thank you for the plants.")
    page.see("Good for")
    page.click("button", "Pay with the stub")
    page.see("Go on where you were.")
    page.click("summary", "A key for a helper")
    page.write("input", "Spends at most, in sats", "100")
    page.click("button", "Make the key")
    page.see("max_msat = 100000")
    _fits(page)
    page.click("summary", "Finish, and take the rest back")
    page.click("button", "Close, and show the code")
    page.see("Scan this to take it back")
    _fits(page)
    page.click("button", "By address or invoice instead")
    _take_an_invoice(page)
    page.click("button", "Pay it back")
    page.see("sats paid back")

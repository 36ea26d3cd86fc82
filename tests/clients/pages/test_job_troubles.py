"""Jobs on the first page in trouble: streams that are cut, a server that is killed, and invoices that are over."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.clients.pages.test_jobs import begin, head, pay
from tests.clients.pages.visits import NARROW, ScriptedModel, Visit
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, free_port

Visits = Callable[..., Visit]
_EXPIRY_S = 6


def test_without_an_event_stream_the_page_asks_instead(visit: Visits) -> None:
    visitor = visit("/#job")
    visitor.expect_refusals(0, 429)
    visitor.page.route("**/jobs/*/events", lambda route: route.fulfill(status=429, json={"code": "rate_limited"}))
    begin(visitor)
    pay(visitor, "Your work has a price")
    pay(visitor, "Here is your result")


def test_a_stream_that_is_cut_is_taken_up_again(visit: Visits, model: ScriptedModel) -> None:
    visitor = visit("/#job", viewport=NARROW)
    visitor.expect_refusals(0)
    begin(visitor)
    pay(visitor, "Your work has a price")
    model.hold()
    pay(visitor, "The work is under way")
    visitor.context.set_offline(True)
    # An open stream outlives a browser's `offline`; one that wakes up asks at once, and finds nobody.
    visitor.page.evaluate("dispatchEvent(new Event('online'))")
    expect(visitor.page.get_by_role("alert")).to_contain_text("tries again by itself")
    visitor.assert_accessible()
    model.let_go()
    visitor.context.set_offline(False)
    head(visitor.page, "Here is your result")
    expect(visitor.page.get_by_role("alert")).to_have_count(0)


@pytest.fixture
def home(model: ScriptedModel) -> Iterator[Callable[[], Served]]:
    """Starts a server on one data directory and port, again and again."""
    port = free_port()
    settings = {
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": model.url,
        "SATMETER_HOSTS": "1",
        "SATMETER_JOB_EXPIRY_S": str(_EXPIRY_S),
    }
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory:
        begun: list[Served] = []

        def start() -> Served:
            begun.append(Served(Path(directory) / "data", settings, port))
            begun[-1].wait_until_ready()
            return begun[-1]

        try:
            yield start
        finally:
            for one in begun:
                one.close()


def test_a_killed_server_and_an_invoice_that_is_over(
    browser: Browser, modules: Path, model: ScriptedModel, home: Callable[[], Served]
) -> None:
    first = home()
    visitor = Visit(browser, first.url, modules, {"viewport": NARROW})
    visitor.expect_refusals(0, 503)
    page = visitor.page
    visitor.go("/#job")
    begin(visitor)
    pay(visitor, "Your work has a price")
    model.hold()
    pay(visitor, "The work is under way")
    unpaid = visitor.another()
    unpaid.goto("/#job")
    unpaid.get_by_label("Your request").fill("Too late")
    unpaid.get_by_role("button", name="Show the invoice").click()
    head(unpaid, "Pay for the evaluation")
    first.stop(signal.SIGKILL)
    for shown in (page, unpaid):
        expect(shown.get_by_text("tries again by itself")).to_be_visible()
    expect(unpaid.get_by_text("The time to pay this is over.")).to_be_visible()
    model.let_go()
    home()
    # Nobody reloads anything, and the work is done for what was paid.
    head(page, "Here is your result")
    expect(page.get_by_role("alert")).to_have_count(0)
    head(unpaid, "The time to pay was over")
    visitor.assert_accessible(unpaid)
    unpaid.get_by_role("button", name="Begin again").click()
    expect(unpaid.get_by_label("Your request")).to_have_value("Too late")
    visitor.close()
    visitor.assert_quiet()

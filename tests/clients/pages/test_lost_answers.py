"""Answers that a page never gets: what it ordered is repeated under its key, and nothing is made or paid twice.

The server has answered each time, and the connection breaks before the page reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.clients.pages.test_jobs import TEXT, begin, head, pay, status
from tests.clients.pages.visits import NARROW, ScriptedModel, Visit
from tests.helpers.served import Served

Visits = Callable[..., Visit]
FINISH = "Finish, and take the rest back"
TO = "Lightning address or invoice"


class _Lost:
    """Answers to POSTs to an address, as the server gave them, and none of them reaches the page."""

    def __init__(self, page: Page, path: str) -> None:
        self._page, self._path = page, path
        self.keys: list[str] = []
        self.answers: list[dict[str, Any]] = []
        page.route(path, self._swallow)

    def _swallow(self, route: Route) -> None:
        if route.request.method != "POST":
            # Nor does the page learn by looking.
            route.abort("connectionreset")
            return
        answer = route.fetch()
        assert answer.ok, answer.text()
        self.keys.append(route.request.headers["idempotency-key"])
        self.answers.append(answer.json())
        route.abort("connectionreset")

    def repeated(self, act: Callable[[], None]) -> dict[str, Any]:
        """Act again without the break, and return the answer that the page then gets to the same key."""
        self._page.unroute(self._path)
        with self._page.expect_response(lambda got: got.request.method == "POST" and got.ok) as caught:
            act()
        assert len(self.keys) == 1 and caught.value.request.headers["idempotency-key"] == self.keys[0]
        told: dict[str, Any] = caught.value.json()
        return told


def _says_try_again(page: Page) -> None:
    expect(page.get_by_role("alert").filter(has_text="Nothing is paid twice.").first).to_be_visible()


def _take_an_invoice(visitor: Visit) -> None:
    visitor.button("Use an invoice of the stub").click()
    expect(visitor.page.get_by_label(TO)).to_have_value(re.compile("^ln"))


def _looked_up(site: Served, visitor: Visit, session_id: str, more: str = "") -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {visitor.key()}"}
    told: dict[str, Any] = site.client.get(f"/sessions/{session_id}{more}", headers=headers).json()
    return told


def test_a_session_is_opened_once(visit: Visits) -> None:
    visitor = visit(viewport=NARROW)
    visitor.expect_refusals(0)
    lost = _Lost(visitor.page, "**/sessions")
    visitor.button("Show the invoice").click()
    _says_try_again(visitor.page)
    told = lost.repeated(lambda: visitor.button("Show the invoice").click())
    assert told["macaroon"] == lost.answers[0]["macaroon"]
    visitor.button("Pay with the stub").click()
    expect(visitor.page.get_by_text("500 sats left")).to_be_visible()


def test_a_top_up_is_ordered_once(visit: Visits) -> None:
    visitor = visit()
    visitor.expect_refusals(0)
    visitor.deposit()
    visitor.button("Top up").click()
    lost = _Lost(visitor.page, "**/topup")
    visitor.button("Show the invoice").click()
    _says_try_again(visitor.page)
    told = lost.repeated(lambda: visitor.button("Show the invoice").click())
    assert told == lost.answers[0]
    assert len(visitor.session()["pendingInvoices"]) == 1
    visitor.button("Pay with the stub").click()
    expect(visitor.page.get_by_text("1,500 sats left")).to_be_visible()


def test_a_session_is_closed_and_paid_back_once(visit: Visits, site: Served) -> None:
    visitor = visit()
    visitor.expect_refusals(0)
    visitor.deposit()
    page, session_id = visitor.page, visitor.session()["sessionId"]
    visitor.unfold(FINISH)
    _take_an_invoice(visitor)
    lost = _Lost(page, f"**/sessions/{session_id}**")
    visitor.button("Close, and pay it back").click()
    _says_try_again(page)
    before = _looked_up(site, visitor, session_id)
    assert before["state"] == "closed" and before["refund"]["paidMsat"] > 0
    lost.repeated(lambda: visitor.button("Close, and pay it back").click())
    head(page, "This session is closed")
    expect(page.get_by_text("paid back.")).to_be_visible()
    assert _looked_up(site, visitor, session_id)["refund"]["paidMsat"] == before["refund"]["paidMsat"]


def test_a_page_that_was_left_before_the_answer_to_close_shows_what_was_paid(visit: Visits) -> None:
    visitor = visit(viewport=NARROW)
    visitor.expect_refusals(0)
    visitor.deposit()
    page, session_id = visitor.page, visitor.session()["sessionId"]
    visitor.unfold(FINISH)
    _take_an_invoice(visitor)
    _Lost(page, f"**/sessions/{session_id}**")
    visitor.button("Close, and pay it back").click()
    _says_try_again(page)
    page.reload()
    head(page, "Your session did not open")
    page.unroute_all()
    # By itself, and with nothing to press.
    head(page, "This session is closed")
    expect(page.get_by_text("paid back.")).to_be_visible()


def test_a_code_to_take_the_rest_is_made_once(visit: Visits) -> None:
    visitor = visit(viewport=NARROW)
    visitor.expect_refusals(0)
    visitor.deposit()
    session_id = visitor.session()["sessionId"]
    visitor.unfold(FINISH)
    lost = _Lost(visitor.page, f"**/sessions/{session_id}**")
    visitor.button("Close, and show the code").click()
    _says_try_again(visitor.page)
    told = lost.repeated(lambda: visitor.button("Close, and show the code").click())
    assert told["refund"]["withdraw"] == lost.answers[0]["refund"]["withdraw"]
    expect(visitor.page.get_by_role("img", name="QR code to take the rest back")).to_be_visible()


def test_a_job_is_made_once_and_its_text_outlives_a_reload(visit: Visits) -> None:
    visitor = visit("/#job", viewport=NARROW)
    visitor.expect_refusals(0)
    page = visitor.page
    page.get_by_label("Your request").fill(TEXT)
    lost = _Lost(page, "**/jobs")
    visitor.button("Show the invoice").click()
    _says_try_again(page)
    told = lost.repeated(lambda: visitor.button("Show the invoice").click())
    assert told["jobId"] == lost.answers[0]["jobId"]
    head(page, "Pay for the evaluation")
    page.get_by_role("link", name="Another job").click()
    expect(page.locator(".jobs a")).to_have_count(1)
    page.get_by_label("Your request").fill("Words that are not sent yet")
    page.reload()
    expect(page.get_by_label("Your request")).to_have_value("Words that are not sent yet")


def test_the_rest_of_a_job_is_paid_once(visit: Visits, site: Served) -> None:
    visitor = visit("/#job")
    visitor.expect_refusals(0)
    page, job_id = visitor.page, begin(visitor)
    pay(visitor, "Your work has a price")
    pay(visitor, "Here is your result")
    _take_an_invoice(visitor)
    lost = _Lost(page, f"**/jobs/{job_id}**")
    visitor.button("Pay it back").click()
    _says_try_again(page)
    paid_msat = status(site, job_id)["refund"]["paidMsat"]
    assert paid_msat > 0
    # The page looks every two seconds: the repetition must not be what it sees by that.
    page.route(f"**/jobs/{job_id}", lambda route: route.abort("connectionreset"))
    page.unroute(f"**/jobs/{job_id}**")
    lost.repeated(lambda: visitor.button("Pay it back").click())
    expect(page.get_by_role("heading", name=re.compile(r"sats? paid back"))).to_be_visible()
    assert status(site, job_id)["refund"]["paidMsat"] == paid_msat


# Two tabs


def test_each_of_two_tabs_shows_the_cost_of_its_own_message(visit: Visits, site: Served, model: ScriptedModel) -> None:
    visitor = visit()
    visitor.deposit()
    session_id = visitor.session()["sessionId"]
    first, second = visitor.page, visitor.another()
    second.goto("/")
    expect(second.get_by_label("Your message")).to_be_visible()
    model.hold_stream(after_events=12)
    first.get_by_label("Your message").fill("A long story, please.")
    visitor.button("Send").click()
    expect(first.get_by_text("so far")).to_be_visible()
    # Meanwhile the same session pays for something else, whose answer is too short to be held up.
    model.says("Yes.")
    headers = {"Authorization": f"Bearer {visitor.key()}"}
    body = {"request": "words " * 2_000}
    other = site.client.post(f"/sessions/{session_id}/request", json=body, headers=headers).json()
    assert other["debitedMsat"] > 1_000
    visitor.button("Stop").click()
    model.let_go()
    model.forget()
    cost = first.get_by_role("log").locator(".cost")
    expect(cost).to_contain_text("sat")
    own = [entry for entry in _debits(site, visitor, session_id) if entry["requestId"] != other["requestId"]]
    assert len(own) == 1
    shown = re.match(r"[\d.]+", cost.inner_text())
    assert shown is not None and abs(float(shown[0]) * 1_000 - own[0]["amountMsat"]) < 100
    # The balance is the session's in both, without a look at the other tab.
    left = _looked_up(site, visitor, session_id)["balanceMsat"] // 1_000
    for page in (first, second):
        expect(page.get_by_text(f"{left} sats left")).to_be_visible()
    visitor.page = second
    answer = visitor.ask("And what is this?")
    debit = _debits(site, visitor, session_id)[-1]["amountMsat"]
    shown = re.match(r"[\d.]+", answer.locator(".cost").inner_text())
    assert shown is not None and abs(float(shown[0]) * 1_000 - debit) < 100
    left = _looked_up(site, visitor, session_id)["balanceMsat"] // 1_000
    for page in (first, second):
        expect(page.get_by_text(f"{left} sats left")).to_be_visible()


def _debits(site: Served, visitor: Visit, session_id: str) -> list[dict[str, Any]]:
    entries = _looked_up(site, visitor, session_id, "/ledger")["entries"]
    return [entry for entry in entries if entry["kind"] == "debit"]

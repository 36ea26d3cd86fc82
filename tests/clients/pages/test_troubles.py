"""Troubles on the first page: a person loses no money and no text, and reads what to do next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page, Route, expect

from tests.clients.pages.visits import NARROW, ScriptedModel, Visit
from tests.helpers.served import Served

Visits = Callable[..., Visit]
CALLS = "**/v1/chat/completions"
# A browser that keeps nothing for a page throws as soon as a script looks.
NO_STORAGE = """for (const name of ["localStorage", "sessionStorage"])
    Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });"""


def _send(visitor: Visit, text: str) -> None:
    visitor.page.get_by_label("Your message").fill(text)
    visitor.button("Send").click()


def _debits(site: Served, visitor: Visit) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {visitor.key()}"}
    path = f"/sessions/{visitor.session()['sessionId']}/ledger"
    return [entry for entry in site.client.get(path, headers=headers).json()["entries"] if entry["kind"] == "debit"]


# The connection


def test_a_message_that_never_arrived_is_sent_once_and_only_when_asked(visit: Visits, site: Served) -> None:
    visitor = visit()
    visitor.expect_refusals(0)
    visitor.deposit()
    page = visitor.page
    calls: list[str] = []

    def lost(route: Route) -> None:
        calls.append(route.request.headers["idempotency-key"])
        route.abort("connectionfailed")

    page.route(CALLS, lost)
    _send(visitor, "Are you there?")
    expect(page.get_by_role("alert")).to_contain_text("Check your connection")
    assert len(calls) == 1 and _debits(site, visitor) == []
    page.reload()
    expect(page.get_by_text("Your last message has no whole answer yet.")).to_be_visible()
    expect(page.get_by_role("log")).to_contain_text("Are you there?")
    page.unroute(CALLS)
    with page.expect_request(CALLS) as sent:
        visitor.button("Fetch the answer").click()
    assert sent.value.headers["idempotency-key"] == calls[0]
    expect(page.get_by_role("log")).to_contain_text("SHA-256")
    expect(page.get_by_role("log").locator(".mine")).to_have_count(1)
    assert len(_debits(site, visitor)) == 1


def test_an_answer_that_was_lost_is_fetched_and_charged_once(visit: Visits, site: Served, model: ScriptedModel) -> None:
    visitor = visit()
    visitor.expect_refusals(0)
    visitor.deposit()
    page = visitor.page

    def swallow(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    page.route(CALLS, swallow)
    asked = model.requests
    _send(visitor, "Say it once.")
    expect(visitor.button("Fetch the answer")).to_be_visible()
    page.unroute(CALLS)
    visitor.button("Fetch the answer").click()
    expect(page.get_by_role("log")).to_contain_text("SHA-256")
    assert model.requests == asked + 1 and len(_debits(site, visitor)) == 1


def test_a_reload_in_the_middle_of_an_answer_loses_nothing(visit: Visits, site: Served, model: ScriptedModel) -> None:
    visitor = visit()
    visitor.deposit()
    page = visitor.page
    model.hold_stream(after_events=8)
    _send(visitor, "A long story, please.")
    expect(page.get_by_text("so far")).to_be_visible()
    expect(page.get_by_text("so far")).to_contain_text("$")
    page.reload()
    expect(page.get_by_text("Your last message has no whole answer yet.")).to_be_visible()
    model.let_go()
    visitor.button("Fetch the answer").click()
    expect(page.get_by_role("log")).to_contain_text("This is")
    expect(visitor.button("Send")).to_be_visible()
    assert len(_debits(site, visitor)) == 1
    # The text can be had back as well, and is then another request.
    expect(page.get_by_label("Your message")).to_have_value("")


def test_a_message_without_an_answer_can_be_edited(visit: Visits, site: Served) -> None:
    visitor = visit()
    visitor.expect_refusals(0)
    visitor.deposit()
    page = visitor.page
    page.route(CALLS, lambda route: route.abort("connectionfailed"))
    _send(visitor, "Teh question")
    page.get_by_label("Your message").fill("Another one")
    visitor.button("Send").click()
    expect(page.get_by_text("Your last message has no answer yet.")).to_be_visible()
    visitor.button("Edit the message").click()
    expect(page.get_by_label("Your message")).to_have_value("Teh question\n\nAnother one")
    assert _debits(site, visitor) == []


def test_stop_ends_the_answer_and_says_what_it_cost(visit: Visits, site: Served, model: ScriptedModel) -> None:
    visitor = visit(viewport=NARROW)
    visitor.deposit()
    model.hold_stream(after_events=8)
    _send(visitor, "A long story, please.")
    expect(visitor.page.get_by_text("so far")).to_be_visible()
    visitor.button("Stop").click()
    model.let_go()
    expect(visitor.page.get_by_text("You pay for what was written until then.")).to_be_visible()
    expect(visitor.page.get_by_role("log").locator(".cost")).to_contain_text("sat")
    assert len(_debits(site, visitor)) == 1
    visitor.ask("Go on.")


def test_an_answer_that_the_model_breaks_off_is_kept_with_what_to_do(visit: Visits) -> None:
    visitor = visit()
    visitor.deposit()
    _send(visitor, "Fail in the middle [break]")
    expect(visitor.page.get_by_text("Write \u201cgo on\u201d for the rest.")).to_be_visible()
    expect(visitor.page.get_by_role("log")).to_contain_text("This is Satmeter's")
    visitor.ask("Go on.")


@pytest.mark.parametrize("what_comes", ["a proxy's page", "half an event"])
def test_an_answer_that_the_page_can_t_read_is_fetched_and_charged_once(
    visit: Visits, site: Served, model: ScriptedModel, what_comes: str
) -> None:
    visitor = visit()
    visitor.expect_refusals(502)
    visitor.deposit()
    page = visitor.page

    def garbled(route: Route) -> None:
        route.fetch()
        if what_comes == "half an event":
            route.fulfill(status=200, content_type="text/event-stream", body='data: {"choices": [\n\n')
        else:
            route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")

    page.route(CALLS, garbled)
    asked = model.requests
    _send(visitor, "Say it once.")
    expect(visitor.button("Fetch the answer")).to_be_visible()
    expect(page.get_by_label("Your message")).to_have_value("")
    page.unroute(CALLS)
    visitor.button("Fetch the answer").click()
    expect(page.get_by_role("log")).to_contain_text("SHA-256")
    assert model.requests == asked + 1 and len(_debits(site, visitor)) == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (429, {"error": {"message": "Too many."}, "code": "rate_limited"}, "Ready again in 30 seconds."),
        (503, {"error": {"message": "The store is away."}, "code": "unavailable"}, "Your money is safe where it is."),
        (502, {"error": {"message": "The model failed."}, "code": "model_failed"}, "choose another model"),
        (
            400,
            {"error": {"message": "Long."}, "code": "invalid_request", "promptTokens": 9},
            "Begin a new conversation",
        ),
    ],
)
def test_a_refusal_gives_the_text_back_and_says_what_to_do(
    visit: Visits, status: int, body: dict[str, Any], words: str
) -> None:
    visitor = visit()
    visitor.expect_refusals(status)
    visitor.deposit()
    headers = {"content-type": "application/json", "retry-after": "30"}
    visitor.page.route(CALLS, lambda route: route.fulfill(status=status, headers=headers, body=json.dumps(body)))
    _send(visitor, "My precious words")
    expect(visitor.page.get_by_role("alert")).to_contain_text(words)
    expect(visitor.page.get_by_label("Your message")).to_have_value("My precious words")


def test_a_balance_that_is_too_low_has_its_top_up_at_hand(visit: Visits, model: ScriptedModel) -> None:
    visitor = visit(viewport=NARROW)
    visitor.expect_refusals(400, 402)
    page = visitor.page
    page.get_by_label("Another amount in sats").fill("100")
    visitor.deposit()
    page.get_by_label("Model").select_option("claude-opus-4-8")
    text = "words " * 16_000
    _send(visitor, text)
    expect(page.get_by_role("alert")).to_contain_text("The balance is too small")
    visitor.assert_accessible()
    visitor.button("Pay with the stub").click()
    expect(page.get_by_text("Go on where you were.")).to_be_visible()
    expect(page.get_by_label("Your message")).to_have_value(text.strip())
    visitor.button("Send").click()
    expect(page.get_by_role("log").locator(".cost")).to_contain_text("$")
    assert model.requests


# Keys


def _reads(page: Page, words: str) -> None:
    expect(page.get_by_text(words).first).to_be_visible()


def test_a_reload_finds_the_session_again_in_every_state(visit: Visits, site: Served) -> None:
    visitor = visit()
    page = visitor.page
    visitor.deposit(pays=False)
    # Until the invoice is there, no session is: a reload would begin again.
    expect(visitor.button("Pay with the stub")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Pay once, then chat")).to_be_visible()
    # Paid after the tab was closed, and found by the next one.
    seen = visitor.session()
    page.close()
    site.client.post(f"/dev/stub/pay/{seen['pendingInvoices'][0]['paymentHash']}")
    visitor.page = visitor.another()
    visitor.go()
    _reads(visitor.page, "500 sats left")
    visitor.unfold("Finish, and take the rest back")
    visitor.page.get_by_label("Lightning address or invoice").fill("nobody@localhost")
    visitor.expect_refusals(400)
    visitor.button("Close, and pay it back").click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("Change it, then try again.")
    assert visitor.session()["state"] == "active"
    visitor.button("Use an invoice of the stub").click()
    expect(visitor.page.get_by_label("Lightning address or invoice")).not_to_have_value("nobody@localhost")
    visitor.button("Close, and pay it back").click()
    _reads(visitor.page, "paid back.")
    visitor.page.reload()
    _reads(visitor.page, "This session is closed")
    _reads(visitor.page, "paid back.")


def _answers_of_session(visitor: Visit, change: Callable[[Route], None]) -> str:
    path = f"**/sessions/{visitor.session()['sessionId']}"
    visitor.page.route(path, change)
    return path


def test_a_deposit_whose_invoice_is_over_is_awaited_after_a_reload(visit: Visits, site: Served) -> None:
    visitor = visit()
    visitor.deposit(pays=False)
    expect(visitor.button("Pay with the stub")).to_be_visible()
    seen = visitor.session()

    def lapsed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "pendingInvoices": []})

    path = _answers_of_session(visitor, lapsed)
    visitor.page.reload()
    _reads(visitor.page, "The time of the invoice is over.")
    visitor.assert_accessible()
    visitor.page.unroute(path)
    # The node tells late of what was paid in time.
    site.client.post(f"/dev/stub/pay/{seen['pendingInvoices'][0]['paymentHash']}")
    _reads(visitor.page, "500 sats left")


def test_a_session_that_does_not_open_is_looked_at_again(visit: Visits) -> None:
    visitor = visit()
    visitor.expect_refusals(503)
    visitor.deposit()
    page = visitor.page
    busy = {"error": "The store can't be reached just now.", "code": "unavailable"}
    path = _answers_of_session(visitor, lambda route: route.fulfill(status=503, json=busy))
    page.reload()
    _reads(page, "Your session did not open")
    page.unroute(path)
    _reads(page, "500 sats left")
    page.route("**/v1/models", lambda route: route.fulfill(status=503, json=busy))
    page.reload()
    _reads(page, "The prices did not load.")
    page.unroute("**/v1/models")
    _reads(page, "500 sats left")


def test_a_clock_that_is_hours_off_hides_no_invoice(visit: Visits) -> None:
    visitor = visit("/docs")
    visitor.page.add_init_script("const real = Date.now; Date.now = () => real() + 5 * 3_600_000;")
    visitor.go()
    visitor.deposit()
    _reads(visitor.page, "500 sats left")
    visitor.button("Top up").click()
    visitor.button("Show the invoice").click()
    expect(visitor.page.get_by_text("Good for")).to_be_visible()
    visitor.button("Pay with the stub").click()
    _reads(visitor.page, "Go on where you were.")


def test_all_sessions_of_a_browser_are_in_reach(visit: Visits) -> None:
    visitor = visit()
    visitor.deposit()
    visitor.page.evaluate(
        """async (key) => {
            const entry = document.querySelector("script[type=module]").src;
            const {narrow} = await import(entry.replace("home.js", "macaroon.js"));
            for (let number = 1; number <= 15; number += 1) {
                const macaroon = await narrow(key, [`max_msat = ${number}000`]);
                localStorage.setItem(`satmeter.key.${macaroon.slice(-16)}`, JSON.stringify({macaroon, at: Date.now()}));
            }
        }""",
        visitor.key(),
    )
    visitor.unfold("Your key")
    visitor.button("Use another session").click()
    expect(visitor.page.locator(".kept")).to_have_count(16)
    expect(visitor.page.locator(".kept", has_text="Looking")).to_have_count(0)


def test_two_tabs_open_two_sessions_and_no_key_is_lost(visit: Visits) -> None:
    visitor = visit()
    first = visitor.page
    second = visitor.another()
    second.goto("/")
    for page, amount in ((first, "500 sats"), (second, "2,000 sats")):
        page.get_by_label(amount).check(force=True)
        page.get_by_role("button", name="Show the invoice").click()
        expect(page.get_by_role("img", name="QR code of the invoice")).to_be_visible()
    for page in (first, second):
        page.get_by_role("button", name="Pay with the stub").click()
    _reads(first, "500 sats left")
    _reads(second, "2,000 sats left")
    first.reload()
    _reads(first, "500 sats left")
    first.close()
    second.close()
    third = visitor.another()
    third.goto("/")
    _reads(third, "2,000 sats left")
    visitor.page = third
    visitor.unfold("Your key")
    third.get_by_role("button", name="Use another session").click()
    _reads(third, "Sessions in this browser")
    third.locator(".kept", has_text="500 sats left").get_by_role("button").click()
    _reads(third, "500 sats left")


def test_an_invoice_that_is_paid_after_one_went_back_is_not_lost(visit: Visits, site: Served) -> None:
    visitor = visit()
    visitor.deposit(pays=False)
    expect(visitor.button("Pay with the stub")).to_be_visible()
    payment_hash = visitor.session()["pendingInvoices"][0]["paymentHash"]
    visitor.button("Back").click()
    _reads(visitor.page, "Not paid yet")
    site.client.post(f"/dev/stub/pay/{payment_hash}")
    visitor.page.locator(".kept").get_by_role("button").click()
    _reads(visitor.page, "500 sats left")


def test_a_narrowed_key_does_not_take_the_place_of_the_whole_one(visit: Visits) -> None:
    visitor = visit()
    visitor.expect_refusals(403)
    visitor.deposit()
    page = visitor.page
    whole = visitor.key()
    visitor.unfold("A key for a helper")
    visitor.button("Make the key").click()
    narrowed = page.get_by_role("region", name="The helper\u2019s key").inner_text()
    visitor.unfold("Your key")
    visitor.button("Use another session").click()
    visitor.unfold("I have a key already")
    page.get_by_label("Key", exact=True).fill(narrowed)
    visitor.button("Open the session").click()
    _reads(page, "A narrowed key")
    kept = page.evaluate("Object.values(localStorage).map((text) => JSON.parse(text).macaroon)")
    assert set(kept) == {whole, narrowed}


def test_without_storage_the_invoice_comes_after_the_key_was_saved(visit: Visits) -> None:
    visitor = visit("/docs")
    visitor.page.add_init_script(NO_STORAGE)
    visitor.go()
    page = visitor.page
    visitor.button("Show the invoice").click()
    expect(page.get_by_role("heading", name="Save the key before you pay")).to_be_visible()
    expect(visitor.button("Show the invoice")).to_be_disabled()
    visitor.assert_accessible()
    visitor.button("Copy the key").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    key = page.evaluate("navigator.clipboard.readText()")
    page.get_by_label("I have saved the key").check()
    visitor.button("Show the invoice").click()
    visitor.button("Pay with the stub").click()
    _reads(page, "500 sats left")
    visitor.ask("Are you there?")
    page.reload()
    visitor.unfold("I have a key already")
    page.get_by_label("Key", exact=True).fill(key)
    visitor.button("Open the session").click()
    _reads(page, "spent")


def test_a_key_that_is_not_kept_is_in_the_tab_alone(visit: Visits) -> None:
    visitor = visit()
    visitor.page.get_by_label("Keep the key in this browser").first.uncheck()
    visitor.deposit()
    visitor.page.reload()
    _reads(visitor.page, "500 sats left")
    assert visitor.page.evaluate("localStorage.length") == 0
    # It is asked before the tab is closed.
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    visitor.page.on("dialog", leave)
    visitor.page.close(run_before_unload=True)
    visitor.page.wait_for_event("close")
    assert asked == ["beforeunload"]
    visitor.page = visitor.another()
    visitor.go()
    expect(visitor.page.get_by_role("heading", name="How much do you want to put in?")).to_be_visible()


def test_to_open_a_wallet_is_not_to_leave_the_page(visit: Visits) -> None:
    visitor = visit()
    page = visitor.page
    page.get_by_label("Keep the key in this browser").first.uncheck()
    visitor.deposit(pays=False)
    # Without a listener, Playwright itself would say no.
    page.on("dialog", lambda dialog: dialog.accept())
    page.evaluate(
        "addEventListener('beforeunload', (event) => { (window.asked ??= []).push(event.defaultPrevented); })"
    )
    page.get_by_role("link", name="Open in a wallet").click()
    page.wait_for_function("window.asked")
    assert page.evaluate("window.asked") == [False]


def test_without_javascript_the_page_says_what_to_do(visit: Visits) -> None:
    visitor = visit(java_script_enabled=False)
    expect(visitor.page.get_by_role("heading", name="Without JavaScript")).to_be_visible()
    expect(visitor.page.locator("noscript code", has_text="/jobs -H").first).to_be_visible()
    expect(visitor.page.get_by_text("One moment")).to_be_hidden()

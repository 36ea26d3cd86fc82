"""Jobs on the first page: from the request to the result and the rest taken back, by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect

from tests.clients.pages.visits import NARROW, WIDE, Keys, ScriptedModel, Visit
from tests.helpers.lnurl_servers import url_of_lnurl
from tests.helpers.served import Served

Visits = Callable[..., Visit]
TEXT = "Write a short note to a neighbour who watered the plants."
ATTACKS = (
    "<img src=x onerror=document.title='owned'>",
    "<script>document.title='owned'</script>",
    "[a link](javascript:document.title='owned')",
    "![a picture](https://evil.example/pixel.png)",
)


def head(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def begin(visitor: Visit, text: str = TEXT) -> str:
    """Write a request, and return the job's id once its invoice is there."""
    visitor.page.get_by_label("Your request").fill(text)
    visitor.button("Show the invoice").click()
    head(visitor.page, "Pay for the evaluation")
    return visitor.page.url.rpartition("#")[2]


def pay(visitor: Visit, then: str) -> None:
    visitor.button("Pay with the stub").click()
    head(visitor.page, then)


def status(site: Served, job_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = site.client.get(f"/jobs/{job_id}").json()
    return answer


def test_a_whole_job_by_mouse(visit: Visits, site: Served) -> None:
    visitor = visit(viewport=NARROW, has_touch=True, color_scheme="light")
    page = visitor.page
    page.get_by_role("link", name="One job").click()
    expect(page.get_by_role("row", name="Now: the evaluation")).to_contain_text("10 sats")
    expect(page.get_by_role("row", name="A short answer")).to_contain_text(re.compile(r"about \d+ sats?"))
    visitor.assert_accessible()
    visitor.assert_large_enough()
    job_id = begin(visitor)
    code = page.get_by_role("img", name="QR code of the invoice")
    invoice = status(site, job_id)["evalInvoice"]
    assert visitor.read_code(code) == invoice["paymentRequest"].upper()
    assert (
        page.get_by_role("link", name="Open in a wallet").get_attribute("href")
        == f"lightning:{invoice['paymentRequest']}"
    )
    visitor.button("Copy the invoice").click()
    assert page.evaluate("navigator.clipboard.readText()") == invoice["paymentRequest"]
    expect(page.get_by_text(re.compile(r"Good for \d+ min"))).to_be_visible()
    visitor.assert_accessible()
    visitor.assert_large_enough()

    pay(visitor, "Your work has a price")
    quoted = status(site, job_id)["pricingBreakdown"]
    page.get_by_text("Why this price?").click()
    for told in (
        quoted["model"],
        f"${quoted['modelCostUsd']}",
        f"{quoted['marginPct']} %",
        f"{quoted['amountSats']} sats",
    ):
        expect(page.get_by_text(told).last).to_be_visible()
    visitor.assert_accessible()

    pay(visitor, "Here is your result")
    expect(page.locator(".result")).to_contain_text("watered the plants")
    ledger = status(site, job_id)["costLedger"]
    expect(page.get_by_role("row", name="Cost at the provider")).to_contain_text(f"${ledger['actualCostUsd']}")
    expect(page.get_by_role("row", name="Tokens written")).to_contain_text(str(ledger["actualOutputTokens"]))
    visitor.assert_accessible()
    visitor.assert_large_enough()

    visitor.button("Use an invoice of the stub").click()
    expect(page.get_by_label("Lightning address or invoice")).to_have_value(re.compile("^ln"))
    visitor.button("Pay it back").click()
    expect(page.get_by_role("heading", name=re.compile(r"sats? paid back"))).to_be_visible()
    assert status(site, job_id)["refund"]["paidMsat"] > 0
    visitor.assert_accessible()


def test_a_whole_job_by_keyboard_alone(visit: Visits, site: Served) -> None:
    visitor = visit("/#job", viewport=WIDE, color_scheme="dark")
    page, keys = visitor.page, Keys(visitor.page)
    keys.to("textbox", "Your request")
    keys.write(TEXT)
    keys.press("button", "Show the invoice")
    expect(page.get_by_role("heading", name="Pay for the evaluation")).to_be_focused()
    visitor.assert_accessible()
    keys.press("button", "Pay with the stub")
    # What had the focus is gone: it goes on from the heading, and not from the top of the page.
    expect(page.get_by_role("heading", name="Your work has a price")).to_be_focused()
    visitor.assert_accessible()
    keys.press("button", "Pay with the stub")
    expect(page.get_by_role("heading", name="Here is your result")).to_be_focused()
    visitor.assert_accessible()
    keys.press("button", "Use an invoice of the stub")
    expect(page.get_by_label("Lightning address or invoice")).to_have_value(re.compile("^ln"))
    keys.press("button", "Pay it back")
    expect(page.get_by_role("heading", name=re.compile(r"sats? paid back"))).to_be_focused()
    keys.press("link", "Another job")
    head(page, "What shall be done?")


def test_a_request_that_is_rejected_can_be_changed(visit: Visits, site: Served) -> None:
    visitor = visit("/#job", viewport=NARROW, color_scheme="dark")
    job_id = begin(visitor, "[reject] Something odd")
    pay(visitor, "The request was rejected")
    expect(visitor.page.get_by_role("alert")).to_contain_text(status(site, job_id)["reason"])
    expect(visitor.page.get_by_text("10 sats are kept")).to_be_visible()
    visitor.assert_accessible()
    visitor.button("Change the request, and try again").click()
    expect(visitor.page.get_by_label("Your request")).to_have_value("[reject] Something odd")


def test_a_job_that_failed_gives_all_of_it_back(visit: Visits, site: Served, model: ScriptedModel) -> None:
    visitor = visit("/#job", viewport=WIDE, color_scheme="light")
    job_id = begin(visitor)
    pay(visitor, "Your work has a price")
    model.refuses = True
    try:
        pay(visitor, "The job failed")
    finally:
        model.refuses = False
    job = status(site, job_id)
    expect(visitor.page.get_by_role("alert")).to_contain_text(job["errorMessage"])
    paid_sats = job["evalInvoice"]["amountSats"] + job["workInvoice"]["amountSats"]
    expect(visitor.page.get_by_text(f"You are owed {paid_sats} sats.")).to_be_visible()
    visitor.assert_accessible()
    visitor.button("Use an invoice of the stub").click()
    expect(visitor.page.get_by_label("Lightning address or invoice")).to_have_value(re.compile("^ln"))
    visitor.button("Pay it back").click()
    expect(visitor.page.get_by_role("heading", name=re.compile(r"sats? paid back"))).to_be_visible()


def test_a_phone_takes_the_rest_of_a_job_by_a_code(visit: Visits, site: Served) -> None:
    visitor = visit("/#job", viewport=NARROW)
    begin(visitor)
    pay(visitor, "Your work has a price")
    pay(visitor, "Here is your result")
    code = visitor.page.get_by_role("img", name="QR code to take the rest back")
    expect(code).to_be_visible()
    url = urlsplit(url_of_lnurl(visitor.read_code(code)))
    offer = site.client.get(url.path).json()
    sats = offer["maxWithdrawable"] // 1_000
    invoice = site.client.post("/dev/stub/invoice", json={"amountSats": sats}).json()["paymentRequest"]
    told = site.client.get(urlsplit(offer["callback"]).path, params={"k1": offer["k1"], "pr": invoice}).json()
    assert told == {"status": "OK"}
    # Nobody presses anything.
    expect(visitor.page.get_by_role("heading", name=re.compile(rf"{sats} sats? paid back"))).to_be_visible()


def test_a_wrong_address_for_the_rest_is_said_before_anything_is_paid(visit: Visits) -> None:
    visitor = visit("/#job")
    visitor.expect_refusals(400)
    page = visitor.page
    page.get_by_label("Your request").fill(TEXT)
    page.get_by_text("Have the rest paid back by itself").click()
    page.get_by_label("Your Lightning address, if you have one").fill("not an address")
    visitor.button("Show the invoice").click()
    expect(page.get_by_role("alert")).to_contain_text("Change it, then try again.")
    page.get_by_label("Your Lightning address, if you have one").fill("")
    visitor.button("Show the invoice").click()
    head(page, "Pay for the evaluation")


# What others wrote


def test_markup_in_request_result_and_reason_is_text(visit: Visits, model: ScriptedModel) -> None:
    visitor = visit("/#job")
    page = visitor.page
    text = "\n\n".join(ATTACKS)
    model.says(text)
    begin(visitor, text)
    pay(visitor, "Your work has a price")
    pay(visitor, "Here is your result")
    expect(page.locator(".result")).to_contain_text(ATTACKS[0])
    expect(page.locator(".result")).to_contain_text(ATTACKS[1])
    for element in ("img:not(.qr)", "script", "svg", "iframe", "a"):
        expect(page.locator(f"#job .result {element}, #job .quoted {element}")).to_have_count(0)
    page.get_by_role("link", name="Another job").click()
    expect(page.get_by_role("link", name=ATTACKS[0])).to_be_visible()
    model.reasons(text)
    begin(visitor, f"[reject] {text}")
    pay(visitor, "The request was rejected")
    expect(page.get_by_role("alert")).to_contain_text(ATTACKS[1])
    expect(page.locator("#job .quoted *")).to_have_count(0)
    assert page.title() != "owned"


# Jobs in this browser


def test_a_reload_finds_the_job_and_so_does_its_link_elsewhere(visit: Visits) -> None:
    visitor = visit("/#job")
    job_id = begin(visitor)
    visitor.page.reload()
    head(visitor.page, "Pay for the evaluation")
    visitor.page.get_by_text("Keep this job").click()
    visitor.button(re.compile("Copy the job.s link")).click()
    link = visitor.page.evaluate("navigator.clipboard.readText()")
    assert link == f"{visitor.url}/#{job_id}"
    other = visit(f"/#{job_id}", viewport=NARROW)
    head(other.page, "Pay for the evaluation")
    pay(other, "Your work has a price")
    # The first page sees it by itself.
    head(visitor.page, "Your work has a price")
    other.page.get_by_role("link", name="Another job").click()
    expect(other.page.locator(".jobs li")).to_have_count(1)
    assert other.page.evaluate("localStorage.length") == 0


def test_several_jobs_are_a_short_list_that_this_browser_keeps_by_choice(visit: Visits) -> None:
    visitor = visit("/#job", viewport=NARROW)
    page = visitor.page
    begin(visitor, "The first")
    page.get_by_role("link", name="Another job").click()
    page.get_by_label("Keep the job in this browser").uncheck()
    begin(visitor, "The second, of this tab alone")
    page.get_by_role("link", name="Another job").click()
    expect(page.locator(".jobs a")).to_have_text(["The second, of this tab alone", "The first"])
    visitor.assert_accessible()
    tab = visitor.another()
    tab.goto("/#job")
    expect(tab.locator(".jobs a")).to_have_text(["The first"])
    tab.get_by_role("link", name="The first").click()
    head(tab, "Pay for the evaluation")
    tab.get_by_text("Keep this job").click()
    tab.get_by_role("button", name="Forget it here").click()
    tab.get_by_role("button", name="Press again, if you have the link").click()
    head(tab, "What shall be done?")
    expect(tab.locator(".jobs a")).to_have_count(0)


def test_a_job_that_is_not_there_is_said(visit: Visits) -> None:
    visitor = visit(f"/#job_{'A' * 32}", viewport=NARROW)
    visitor.expect_refusals(404)
    head(visitor.page, "There is no such job here")
    visitor.assert_accessible()
    visitor.page.get_by_role("link", name="Write a request").click()
    head(visitor.page, "What shall be done?")


def test_no_job_is_left_out_of_the_list(visit: Visits) -> None:
    visitor = visit("/#job")
    visitor.page.evaluate(
        """async () => {
            const entry = document.querySelector("script[type=module]").src;
            const {keep} = await import(entry.replace("home.js", "job_list.js"));
            for (let number = 0; number < 30; number += 1) {
                keep(`job_${String(number).padStart(32, "0")}`, {text: `Work ${number}`});
            }
        }"""
    )
    visitor.page.reload()
    visitor.unfold("Older jobs (10)")
    expect(visitor.page.locator(".jobs a")).to_have_count(30)
    expect(visitor.page.get_by_role("link", name="Work 0", exact=True)).to_be_visible()
    visitor.assert_accessible()

"""The page of one invoice, for the person of a program that got a 402; and wallets in the browser (WebLN)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.clients.pages.test_jobs import begin, head, status
from tests.clients.pages.visits import NARROW, WIDE, Visit
from tests.helpers.served import Served

Visits = Callable[..., Visit]
PAY = re.compile("Pay with this browser.s wallet")
TAKE = re.compile("Take it into this browser.s wallet")
# A wallet as webln.guide describes one: `enable` first, an amount in sats, a payment's preimage, an invoice's text.
WALLET = """window.asked = [];
const post = async (path, body) => (await fetch(path, {
    method: "POST", headers: {"content-type": "application/json"}, body: body && JSON.stringify(body),
})).json();
const wallet = {
    enabled: false,
    async enable() { window.asked.push("enable"); this.enabled = true; },
    async sendPayment(paymentRequest) {
        if (!this.enabled) throw new Error("Provider must be enabled before calling sendPayment");
        if (typeof paymentRequest !== "string") throw new Error("no invoice");
        window.asked.push("sendPayment");
        return {preimage: (await post(`/dev/stub/pay/${window.hashes[paymentRequest]}`)).preimage};
    },
    async makeInvoice(args) {
        if (!this.enabled) throw new Error("Provider must be enabled before calling makeInvoice");
        window.asked.push(`makeInvoice ${args.amount} ${typeof args.defaultMemo}`);
        return {paymentRequest: (await post("/dev/stub/invoice", {amountSats: Number(args.amount)})).paymentRequest};
    },
};
"""
LATE = """addEventListener('load', () => setTimeout(() => {
    window.webln = wallet;
    document.dispatchEvent(new Event('webln:ready'));
}, 300));"""


def challenge(site: Served) -> dict[str, Any]:
    """Return a 402 for a program without a credential."""
    answer = site.client.post("/ask", json={"request": "Name three uses of a sextant."})
    assert answer.status_code == 402
    told: dict[str, Any] = answer.json()
    return told


def page_of(told: dict[str, Any]) -> str:
    path: str = urlsplit(told["payPage"]).path
    return path


def pay(site: Served, invoice: dict[str, Any]) -> None:
    assert site.client.post(f"/dev/stub/pay/{invoice['paymentHash']}").status_code == 200


@pytest.mark.parametrize(("size", "scheme"), [(NARROW, "dark"), (WIDE, "light")])
def test_a_phone_pays_the_402_of_a_program(visit: Visits, site: Served, size: Any, scheme: str) -> None:
    told = challenge(site)
    invoice = told["depositInvoice"]
    assert told["payPage"].startswith(f"{site.url}/pay/") and told["payPage"] in told["error"]
    visitor = visit(page_of(told), viewport=size, color_scheme=scheme)
    page = visitor.page
    head(page, f"Pay {invoice['amountSats']:,} sats")
    expect(page.get_by_text(re.compile(r"Good for \d+ (h|min)"))).to_be_visible()
    code = page.get_by_role("img", name="QR code of the invoice")
    assert visitor.read_code(code) == invoice["paymentRequest"].upper()
    visitor.assert_accessible()
    visitor.assert_large_enough()
    pay(site, invoice)
    head(page, "Paid")
    expect(page.get_by_text("send the request again")).to_be_visible()
    visitor.assert_accessible()
    page.reload()
    head(page, "Paid")
    visitor.assert_accessible()


@pytest.mark.parametrize(("size", "scheme"), [(NARROW, "light"), (WIDE, "dark")])
def test_an_address_without_an_invoice_says_what_to_do(visit: Visits, site: Served, size: Any, scheme: str) -> None:
    cut_off = page_of(challenge(site))[:-3]
    visitor = visit("/docs", viewport=size, color_scheme=scheme)
    visitor.expect_refusals(404)
    page = visitor.page
    for path, name in ((cut_off, "There is no invoice here"), ("/no/such/place", "There is no such page")):
        visitor.go(path)
        head(page, name)
        visitor.assert_accessible()
        visitor.assert_large_enough()
        page.get_by_role("link", name="First page").click()
        head(page, "Ask an AI. Pay in sats.")


def test_the_page_works_without_a_script(visit: Visits, site: Served) -> None:
    told = challenge(site)
    visitor = visit(page_of(told), java_script_enabled=False, viewport=NARROW)
    page = visitor.page
    expect(page.get_by_role("img", name="QR code of the invoice")).to_be_visible()
    expect(page.get_by_text(told["depositInvoice"]["paymentRequest"])).to_be_visible()
    pay(site, told["depositInvoice"])
    for _ in range(50):
        if page.get_by_role("heading", name="Paid").is_visible():
            break
        page.reload()
    head(page, "Paid")


@pytest.mark.parametrize("late", [False, True])
def test_the_wallet_of_the_browser_pays(visit: Visits, site: Served, late: bool) -> None:
    told = challenge(site)
    invoice = told["depositInvoice"]
    visitor = visit("/docs")
    hashes = json.dumps({invoice["paymentRequest"]: invoice["paymentHash"]})
    visitor.page.add_init_script(f"{WALLET}\nwindow.hashes = {hashes};\n{LATE if late else 'window.webln = wallet;'}")
    visitor.go(page_of(told))
    visitor.button(PAY).click()
    head(visitor.page, "Paid")
    assert visitor.page.evaluate("asked") == ["enable", "sendPayment"]


def test_a_wallet_that_fails_does_not_mean_that_nothing_was_paid(visit: Visits, site: Served) -> None:
    told = challenge(site)
    visitor = visit("/docs")
    visitor.page.add_init_script(
        "window.webln = {async enable() {}, async sendPayment() { throw new Error('timeout'); }};"
    )
    visitor.go(page_of(told))
    visitor.button(PAY).click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("Look in the wallet before you pay again.")
    visitor.assert_accessible()
    pay(site, told["depositInvoice"])
    head(visitor.page, "Paid")


def test_the_wallet_of_the_browser_pays_a_job_and_takes_the_rest(visit: Visits, site: Served) -> None:
    visitor = visit("/docs", viewport=NARROW)
    page = visitor.page
    page.add_init_script(f"{WALLET}\nwindow.hashes = {{}};\nwindow.webln = wallet;")
    visitor.go("/#job")
    job_id = begin(visitor)
    for name, then in (("evalInvoice", "Your work has a price"), ("workInvoice", "Here is your result")):
        invoice = status(site, job_id)[name]
        page.evaluate("([text, hash]) => { hashes[text] = hash; }", [invoice["paymentRequest"], invoice["paymentHash"]])
        visitor.button(PAY).click()
        head(page, then)
    payable = status(site, job_id)["refund"]["payableSats"]
    visitor.button(TAKE).click()
    expect(page.get_by_role("heading", name=re.compile(r"sats? paid back"))).to_be_visible()
    assert f"makeInvoice {payable} string" in page.evaluate("asked")
    assert status(site, job_id)["refund"]["paidMsat"] == payable * 1_000

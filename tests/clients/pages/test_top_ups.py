"""Top-ups: an open one is shown again after a reload, and one is never hidden behind the field for messages."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from tests.clients.pages.visits import NARROW, Visit
from tests.helpers.served import Served, patiently

Visits = Callable[..., Visit]


def _order(visitor: Visit) -> str:
    """Order a top-up, and return its invoice."""
    visitor.button("Top up").click()
    visitor.button("Show the invoice").click()
    return _invoice(visitor.page)


def _invoice(page: Page) -> str:
    link = page.locator(".chat .invoice").get_by_role("link", name="Open in a wallet").get_attribute("href")
    assert link
    return link.removeprefix("lightning:")


def _pending(visitor: Visit) -> list[str]:
    return [invoice["paymentRequest"] for invoice in visitor.session()["pendingInvoices"]]


def test_an_open_top_up_is_shown_again_after_a_reload(visit: Visits) -> None:
    visitor = visit(viewport=NARROW)
    page = visitor.page
    visitor.deposit()
    ordered = _order(visitor)
    page.reload()
    assert _invoice(page) == ordered
    assert _pending(visitor) == [ordered]
    # A phone throws away tabs: the next one knows the key alone.
    visitor.page = visitor.another()
    page.close()
    visitor.go()
    assert _invoice(visitor.page) == ordered
    visitor.button("Pay with the stub").click()
    expect(visitor.page.get_by_text("Go on where you were.")).to_be_visible()
    expect(visitor.page.get_by_text("1,500 sats left")).to_be_visible()
    visitor.page.reload()
    expect(visitor.page.get_by_text("1,500 sats left")).to_be_visible()
    expect(visitor.page.get_by_text("Paid.")).to_have_count(0)


def test_a_top_up_that_was_paid_while_the_page_was_away_is_said_to_be_paid(visit: Visits, site: Served) -> None:
    visitor = visit()
    page = visitor.page
    visitor.deposit()
    _order(visitor)
    shown, headers = visitor.session(), {"Authorization": f"Bearer {visitor.key()}"}
    visitor.go("/docs")
    site.client.post(f"/dev/stub/pay/{shown['pendingInvoices'][0]['paymentHash']}")
    path = f"/sessions/{shown['sessionId']}"
    # The server hears of it a moment later.
    patiently(lambda: not site.client.get(path, headers=headers).json()["pendingInvoices"], "the top-up")
    visitor.go()
    expect(page.get_by_text("1,500 sats left")).to_be_visible()
    expect(page.get_by_role("status").get_by_text("The top-up is in your balance.")).to_be_visible()
    expect(page.locator(".chat .invoice")).to_have_count(0)
    page.reload()
    expect(page.get_by_text("1,500 sats left")).to_be_visible()
    expect(page.get_by_text("The top-up is in your balance.")).to_have_count(0)


def test_a_top_up_that_was_put_aside_stays_there(visit: Visits) -> None:
    visitor = visit()
    page = visitor.page
    visitor.deposit()
    ordered = _order(visitor)
    visitor.button("Not now").click()
    page.reload()
    expect(page.get_by_text("500 sats left")).to_be_visible()
    expect(page.locator(".chat .invoice")).to_have_count(0)
    assert _pending(visitor) == [ordered]


def _is_in_sight(element: Locator) -> bool:
    """Return whether a finger on the middle of it would touch it."""
    seen: bool = element.evaluate(
        """(element) => {
            const {left, top, width, height} = element.getBoundingClientRect();
            const there = document.elementFromPoint(left + width / 2, top + height / 2);
            return there !== null && element.contains(there);
        }"""
    )
    return seen


def test_what_one_presses_is_not_behind_the_field_for_messages(visit: Visits) -> None:
    visitor = visit(viewport=NARROW)
    visitor.expect_refusals(0)
    page = visitor.page
    visitor.deposit()
    visitor.ask("Tell me something")
    # A browser takes what is behind the field for visible, and does not scroll to it: where it lies is by the fonts.
    page.evaluate(
        """() => {
            const {focus} = HTMLElement.prototype;
            HTMLElement.prototype.focus = function () { focus.call(this, {preventScroll: true}); };
        }"""
    )
    page.evaluate("scrollTo(0, 0)")
    visitor.button("Top up").click()
    assert _is_in_sight(visitor.button("Show the invoice"))
    visitor.button("Not now").click()
    page.evaluate("scrollTo(0, 0)")
    page.route("**/v1/chat/completions", lambda route: route.abort())
    page.get_by_label("Your message").fill("And more")
    visitor.button("Send").click()
    expect(visitor.button("Fetch the answer")).to_be_visible()
    assert _is_in_sight(visitor.button("Fetch the answer"))
    visitor.button("Edit the message").click()


def test_a_key_breaks_into_lines(visit: Visits) -> None:
    visitor = visit(viewport=NARROW)
    visitor.deposit()
    visitor.unfold("A key for a helper")
    visitor.button("Make the key").click()
    shown = visitor.page.get_by_role("region", name="The helper\u2019s key")
    wide, room = shown.evaluate("(shown) => [shown.scrollWidth, shown.clientWidth]")
    assert wide <= room

"""Browsers and texts out of the ordinary: what is chosen can be seen, read, copied, and laid out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.clients.pages.test_jobs import begin, head
from tests.clients.pages.test_troubles import NO_STORAGE
from tests.clients.pages.visits import NARROW, ScriptedModel, Visit

Visits = Callable[..., Visit]
# A clipboard that no script may write to, in either way.
NO_CLIPBOARD = """document.execCommand = () => false;
    Object.defineProperty(navigator, "clipboard", {value: {writeText: () => Promise.reject(new Error("refused"))}});"""
ARABIC = "مرحبا، كيف حالك؟"


def test_an_invoice_and_a_key_can_be_copied_by_hand(visit: Visits) -> None:
    visitor = visit("/docs", viewport=NARROW)
    visitor.page.add_init_script(NO_CLIPBOARD)
    visitor.go()
    page = visitor.page
    visitor.deposit(pays=False)
    visitor.button("Copy the invoice").click()
    invoice = page.get_by_label("Select and copy the invoice by hand")
    link = page.get_by_role("link", name="Open in a wallet").get_attribute("href")
    assert link is not None
    expect(invoice).to_have_value(link.removeprefix("lightning:"))
    assert invoice.evaluate("(field) => field.selectionEnd - field.selectionStart === field.value.length")
    visitor.assert_accessible()
    visitor.button("Pay with the stub").click()
    expect(page.get_by_label("Your message")).to_be_visible()
    visitor.unfold("Your key")
    visitor.button("Copy the key").click()
    expect(page.get_by_label("Select and copy it by hand")).to_have_value(visitor.key())


@pytest.mark.parametrize(
    ("typed", "sats"),
    [("2,500", "2,500"), ("2.500", "2,500"), ("2 500 sats", "2,500"), (" 700 ", "700"), ("12.5", ""), ("1e3", "")],
)
def test_an_amount_is_read_as_people_write_it_and_never_guessed(visit: Visits, typed: str, sats: str) -> None:
    visitor = visit()
    page = visitor.page
    expect(page.get_by_label("500 sats")).to_be_checked()
    page.get_by_label("Another amount in sats").fill(typed)
    # One amount at a time looks chosen.
    expect(page.get_by_label("500 sats")).not_to_be_checked()
    visitor.button("Show the invoice").click()
    if sats:
        expect(page.get_by_text(f"{sats} sats").first).to_be_visible()
        expect(page.get_by_role("img", name="QR code of the invoice")).to_be_visible()
    else:
        expect(page.get_by_role("alert")).to_contain_text("This amount does not fit.")
        page.get_by_label("Another amount in sats").fill("")
        expect(page.get_by_label("500 sats")).to_be_checked()


def test_text_runs_in_its_own_direction(visit: Visits, model: ScriptedModel) -> None:
    visitor = visit(viewport=NARROW)
    visitor.deposit()
    model.says(f"{ARABIC}\n\n- {ARABIC}\n\nAnd this in English.")
    answer = visitor.ask(ARABIC)

    def runs(words: str, tag: str) -> str:
        found: str = answer.locator(tag, has_text=words).first.evaluate("(part) => getComputedStyle(part).direction")
        return found

    assert (runs(ARABIC, "p"), runs(ARABIC, "ul"), runs("English", "p")) == ("rtl", "rtl", "ltr")
    mine = visitor.page.locator(".said.mine")
    assert mine.evaluate("(part) => getComputedStyle(part).direction") == "rtl"
    visitor.assert_accessible()


@pytest.mark.parametrize("width", [195, 320, 360, 390])
def test_on_a_narrow_screen_no_amount_is_wider_than_its_box(visit: Visits, width: int) -> None:
    visitor = visit(viewport={"width": width, "height": 844})
    expect(visitor.button("Show the invoice")).to_be_visible()
    boxes = visitor.page.locator(".choices label")
    widths = boxes.evaluate_all("(all) => all.map((box) => [box.scrollWidth, box.clientWidth])")
    assert len(widths) == 3 and all(inside <= box for inside, box in widths), widths
    whole = visitor.page.evaluate("document.documentElement.scrollWidth")
    assert whole <= width


@pytest.mark.parametrize("width", [195, 320])
def test_a_phone_that_doubles_its_text_has_nothing_beside_the_window(visit: Visits, width: int) -> None:
    visitor = visit(viewport={"width": width, "height": 422})
    expect(visitor.button("Show the invoice")).to_be_visible()
    visitor.assert_accessible()
    visitor.deposit(pays=False)
    expect(visitor.button("Pay with the stub")).to_be_visible()
    visitor.assert_accessible()
    visitor.button("Pay with the stub").click()
    visitor.ask("Hello?")
    visitor.unfold("Finish, and take the rest back")
    visitor.assert_accessible()
    visitor.go("/#job")
    expect(visitor.page.get_by_role("row", name="A short answer")).to_be_visible()
    visitor.assert_accessible()
    begin(visitor)
    visitor.assert_accessible()


def test_with_forced_colors_what_is_chosen_can_be_seen(visit: Visits) -> None:
    visitor = visit(forced_colors="active", viewport=NARROW)
    page = visitor.page

    def ring(selector: str) -> str:
        found: str = page.locator(selector).first.evaluate("(part) => getComputedStyle(part).outlineStyle")
        return found

    expect(visitor.button("Show the invoice")).to_be_visible()
    assert ring(".choices label:has(:checked)") == ring(".modes a[aria-current]") == "solid"
    assert ring(".choices label:not(:has(:checked))") == ring(".modes a:not([aria-current])") == "none"
    visitor.assert_accessible()


def test_on_paper_a_conversation_is_dark_on_light_and_without_its_forms(visit: Visits) -> None:
    visitor = visit(color_scheme="dark")
    visitor.deposit()
    visitor.ask("What is a satoshi?")
    page = visitor.page
    page.emulate_media(media="print")
    expect(page.get_by_text("What is a satoshi?").first).to_be_visible()
    for gone in (page.get_by_label("Your message"), page.get_by_text("A key for a helper")):
        expect(gone).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 248, 243)"


def test_where_a_browser_keeps_nothing_the_jobs_link_is_in_sight(visit: Visits) -> None:
    visitor = visit("/docs", viewport=NARROW)
    visitor.page.add_init_script(NO_STORAGE)
    visitor.go("/#job")
    job_id = begin(visitor)
    expect(visitor.page.get_by_label("The job\u2019s link")).to_contain_text(job_id)
    visitor.button("Keep it in this browser").click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("This browser keeps nothing for this page.")
    visitor.page.reload()
    head(visitor.page, "Pay for the evaluation")


# What Safari does otherwise, as a browser that is at hand can show it


def test_the_enter_that_ends_a_composition_sends_nothing(visit: Visits) -> None:
    visitor = visit()
    visitor.deposit()
    field = visitor.page.get_by_label("Your message")
    field.fill("\u5bff\u53f8")
    # Safari says so by the code alone.
    press = """(field, keyCode) => field.dispatchEvent(
        new KeyboardEvent("keydown", {key: "Enter", keyCode, bubbles: true, cancelable: true}))"""
    assert field.evaluate(press, 229)
    expect(field).to_have_value("\u5bff\u53f8")
    assert not field.evaluate(press, 13)
    expect(field).to_have_value("")
    expect(visitor.button("Send")).to_be_visible()


def test_no_phone_corrects_where_money_goes_or_zooms_in_on_a_field(visit: Visits) -> None:
    visitor = visit("/docs", viewport=NARROW)
    visitor.page.add_init_script(NO_CLIPBOARD)
    visitor.go()
    page = visitor.page
    visitor.unfold("I have a key already")
    expect(page.get_by_label("Key", exact=True)).to_have_attribute("autocorrect", "off")
    visitor.deposit()
    visitor.unfold("Finish, and take the rest back")
    expect(page.get_by_label("Lightning address or invoice")).to_have_attribute("autocorrect", "off")
    visitor.unfold("Your key")
    visitor.button("Copy the key").click()
    sizes = "(all) => all.map((field) => parseFloat(getComputedStyle(field).fontSize))"
    assert min(page.locator("input, select, textarea").evaluate_all(sizes)) >= 16
    visitor.go("/#job")
    visitor.unfold("Have the rest paid back by itself")
    expect(page.get_by_label("Your Lightning address, if you have one")).to_have_attribute("autocorrect", "off")


def test_a_file_can_be_saved_a_minute_after_the_button(visit: Visits) -> None:
    visitor = visit()
    page = visitor.page
    visitor.deposit()
    page.clock.install()
    page.evaluate(
        "() => { window.gone = 0; const end = URL.revokeObjectURL;"
        " URL.revokeObjectURL = (address) => { window.gone += 1; end.call(URL, address); }; }"
    )
    visitor.unfold("Your key")
    with page.expect_download():
        visitor.button("Download the key").click()
    page.clock.fast_forward(60_000)
    assert page.evaluate("window.gone") == 0
    page.clock.fast_forward(600_000)
    assert page.evaluate("window.gone") == 1


def test_a_list_without_points_stays_one_for_voiceover(visit: Visits) -> None:
    visitor = visit("/#job", viewport=NARROW)
    begin(visitor)
    # WebKit takes a list without its points for a matter of looks, unless it says that it is one.
    expect(visitor.page.locator("ol.steps")).to_have_attribute("role", "list")

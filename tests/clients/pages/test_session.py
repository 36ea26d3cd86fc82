"""A whole session on the first page: by mouse and by keyboard, with what a person does with its key."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.clients.pages.visits import NARROW, WIDE, Keys, ScriptedModel, Visit
from tests.helpers import installed
from tests.helpers.patience import PROGRAM_S
from tests.helpers.served import Served

Visits = Callable[..., Visit]


def _close_to_the_stub(visit: Visit, closes: str = "Close, and pay it back") -> None:
    visit.button("Use an invoice of the stub").click()
    expect(visit.page.get_by_label("Lightning address or invoice")).to_have_value(re.compile("^ln"))
    visit.button(closes).click()


def test_a_whole_session_by_mouse(visit: Visits) -> None:
    visitor = visit(viewport=NARROW, has_touch=True, color_scheme="light")
    page = visitor.page
    page.get_by_label("2,000 sats").check(force=True)
    visitor.deposit(pays=False)
    code = page.get_by_role("img", name="QR code of the invoice")
    link = page.get_by_role("link", name="Open in a wallet").get_attribute("href")
    assert link is not None and visitor.read_code(code) == link.removeprefix("lightning:").upper()
    visitor.assert_accessible()
    visitor.button("Pay with the stub").click()
    expect(page.get_by_text("2,000 sats left")).to_be_visible()
    answer = visitor.ask("Name three uses of a sextant.")
    expect(answer).to_contain_text("Name three uses of a sextant.")
    cost = re.fullmatch(r"([\d.]+) sats? · \$[\d.]+", answer.locator(".cost").inner_text())
    assert cost is not None
    spent = visitor.session()["spentMsat"]
    assert abs(spent - float(cost[1]) * 1_000) < 100
    expect(page.get_by_text(re.compile(r"sats? spent"))).to_be_visible()

    visitor.button("Top up").click()
    page.get_by_label("Sats to add").fill("1,500")
    visitor.button("Show the invoice").click()
    visitor.button("Pay with the stub").click()
    expect(page.get_by_text("Go on where you were.")).to_be_visible()
    assert visitor.session()["depositedMsat"] == 3_500_000
    page.get_by_label("Model").select_option(index=1)
    visitor.ask("And of an astrolabe?")

    visitor.unfold("Finish, and take the rest back")
    _close_to_the_stub(visitor)
    expect(page.get_by_role("heading", name="This session is closed")).to_be_visible()
    expect(page.get_by_text("paid back.")).to_be_visible()
    # What the route did not cost came back, and is taken back, too.
    _close_to_the_stub(visitor, "Pay it back")
    expect(visitor.button("Open a new session")).to_be_visible()
    seen = visitor.session()
    refund = seen["refund"]
    assert seen["depositedMsat"] == seen["spentMsat"] + refund["paidMsat"] + refund["owedMsat"]
    assert refund["payableSats"] == 0 and refund["paidMsat"] > 3_000_000
    visitor.button("Open a new session").click()
    expect(page.get_by_role("heading", name="How much do you want to put in?")).to_be_visible()
    expect(page.locator(".kept")).to_have_count(0)
    page.close()
    visitor.page = visitor.another()
    visitor.go()
    expect(visitor.page.get_by_role("heading", name="How much do you want to put in?")).to_be_visible()


def test_a_whole_session_by_keyboard_alone(visit: Visits) -> None:
    visitor = visit(viewport=WIDE, color_scheme="dark")
    page, keys = visitor.page, Keys(visitor.page)
    expect(visitor.button("Show the invoice")).to_be_visible()
    keys.to("textbox", "Another amount in sats")
    keys.write("3000")
    keys.press("button", "Show the invoice")
    keys.press("button", "Pay with the stub")
    expect(page.get_by_label("Your message")).to_be_focused()
    keys.write("Name three uses of a sextant.")
    page.keyboard.press("Enter")
    log = page.get_by_role("log")
    expect(log).to_contain_text("SHA-256")
    expect(visitor.button("Send")).to_be_visible()
    expect(page.get_by_label("Your message")).to_be_focused()
    keys.write("And of an astrolabe?")
    page.keyboard.press("Enter")
    expect(log.locator(".cost")).to_have_count(2)
    keys.unfold("Finish, and take the rest back")
    keys.press("button", "Use an invoice of the stub")
    expect(page.get_by_label("Lightning address or invoice")).to_have_value(re.compile("^ln"))
    keys.press("button", "Close, and pay it back")
    expect(page.get_by_role("heading", name="This session is closed")).to_be_focused()
    expect(page.get_by_text("paid back.")).to_be_visible()
    assert visitor.session()["refund"]["paidMsat"] > 2_000_000


def _wallet(folder: Path, scanned: str, invoice: str) -> Any:
    """Scan a code with a wallet of npm's, as `test_lnurl_wallet` does."""
    program = Path(__file__).parents[1] / "lnurl"
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(installed.node_modules(program, "lnurl"))
        shutil.copy(program / "wallet.mjs", folder)
    words = ["node", "wallet.mjs", scanned, invoice]
    run = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_phone_takes_the_rest_by_a_code_without_a_sum(visit: Visits, site: Served, tmp_path: Path) -> None:
    visitor = visit(viewport=NARROW)
    visitor.deposit()
    visitor.unfold("Finish, and take the rest back")
    visitor.button("Close, and show the code").click()
    code = visitor.page.get_by_role("img", name="QR code to take the rest back")
    expect(code).to_be_visible()
    visitor.assert_accessible()
    scanned = visitor.read_code(code)
    offer = _wallet(tmp_path, scanned, "")["params"]
    assert offer["tag"] == "withdrawRequest" and offer["maxWithdrawable"] > 400_000
    sats = offer["maxWithdrawable"] // 1_000
    invoice = site.client.post("/dev/stub/invoice", json={"amountSats": sats}).json()["paymentRequest"]
    assert _wallet(tmp_path, scanned, invoice)["answer"] == {"status": "OK"}
    expect(visitor.page.get_by_text(f"{sats} sats paid back.")).to_be_visible()


@pytest.mark.parametrize("name", ["Claude Code", "OpenAI\u2019s SDK", "Anthropic\u2019s SDK"])
def test_lines_for_programs_work_when_they_are_pasted(visit: Visits, name: str, tmp_path: Path) -> None:
    visitor = visit()
    visitor.page.get_by_label("2,000 sats").check(force=True)
    visitor.deposit()
    visitor.unfold("Use it in programs")
    visitor.page.get_by_role("button", name=f"Copy the lines for {name}").click()
    lines = visitor.page.evaluate("navigator.clipboard.readText()")
    assert visitor.key() in lines and visitor.url in lines
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "OPENAI_", "SATMETER_"))
    }
    if name == "Claude Code":
        # The SDK that it is built on reads the same variables.
        program = tmp_path / "claude"
        program.write_text(
            f"#!{sys.executable}\nimport os, anthropic\n"
            "for name in ('ANTHROPIC_MODEL', 'ANTHROPIC_DEFAULT_HAIKU_MODEL'):\n"
            "    answer = anthropic.Anthropic().messages.create(model=os.environ[name], max_tokens=500,\n"
            "        messages=[{'role': 'user', 'content': 'What is a satoshi?'}])\n"
            "    print(answer.content[0].text)\n"
        )
        program.chmod(0o755)
        words = ["bash", "-euc", lines]
        environment["PATH"] = f"{tmp_path}{os.pathsep}{environment['PATH']}"
    else:
        words = [sys.executable, "-c", lines]
    run = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PROGRAM_S, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "What is a satoshi?" in run.stdout
    assert visitor.session()["spentMsat"] > 0


def test_a_key_for_a_helper_spends_so_much_and_does_nothing_else(visit: Visits, site: Served) -> None:
    visitor = visit()
    visitor.deposit()
    page = visitor.page
    visitor.unfold("A key for a helper")
    page.get_by_label("Name, for the ledger").fill("scout")
    page.get_by_label("Spends at most, in sats").fill("many")
    visitor.button("Make the key").click()
    expect(page.get_by_text("The most it may spend does not fit.")).to_be_visible()
    page.get_by_label("Spends at most, in sats").fill("100")
    page.get_by_label("Works for").select_option("One day")
    visitor.button("Make the key").click()
    visitor.button("Copy the helper\u2019s key").click()
    narrowed = page.evaluate("navigator.clipboard.readText()")
    seen = visitor.session()
    path, headers = f"/sessions/{seen['sessionId']}", {"Authorization": f"Bearer {narrowed}"}
    asked = site.client.post(f"{path}/request", json={"request": "Who are you?"}, headers=headers)
    assert asked.status_code == 200
    assert site.client.post(f"{path}/close", headers=headers).json()["code"] == "caveat_violated"
    whole = {"Authorization": f"Bearer {visitor.key()}"}
    entries = site.client.get(f"{path}/ledger", headers=whole).json()["entries"]
    assert "scout" in {entry.get("spender") for entry in entries}

    # The helper opens the page with it: it may ask there, and the page doesn't offer what it can't do.
    helper = visit()
    helper.expect_refusals(403)
    helper.unfold("I have a key already")
    helper.page.get_by_label("Key", exact=True).fill(narrowed)
    helper.button("Open the session").click()
    helper.ask("Are you there?")
    expect(helper.page.get_by_text(re.compile(r"\d+ sats left"))).to_be_visible()
    expect(helper.page.get_by_text("Finish, and take the rest back")).to_have_count(0)


def test_a_downloaded_key_opens_the_session_elsewhere(visit: Visits) -> None:
    visitor = visit()
    visitor.deposit()
    visitor.unfold("Your key")
    with visitor.page.expect_download() as download:
        visitor.button("Download the key").click()
    text = Path(download.value.path()).read_text()
    other = visit(viewport=NARROW)
    other.unfold("I have a key already")
    other.page.get_by_label("Key", exact=True).fill(text)
    other.button("Open the session").click()
    expect(other.page.get_by_text("500 sats left")).to_be_visible()
    assert other.key() == visitor.key()


ATTACKS = (
    "<img src=x onerror=document.title='owned'>",
    "<script>document.title='owned'</script>",
    "[a link](javascript:document.title='owned')",
    "![a picture](https://evil.example/pixel.png)",
    "[more](//evil.example) <svg/onload=document.title='owned'>",
    '"><iframe srcdoc="<script>parent.document.title=1</script>">',
    "`<b>code</b>`",
    "```html\n<script>document.title='owned'</script>\n```",
)


def test_markup_in_requests_answers_and_reasons_is_text(visit: Visits, model: ScriptedModel) -> None:
    visitor = visit()
    page = visitor.page
    page.get_by_label("2,000 sats").check(force=True)
    visitor.deposit()
    title = page.title()
    for attack in ATTACKS:
        model.says(f"Here:\n\n{attack}\n\n| a | b |\n|---|---|\n| {attack.replace(chr(10), ' ')} | 2 |\n")
        answer = visitor.ask(attack)
        expect(answer).to_contain_text("Here:")
    model.forget()
    log = page.get_by_role("log")
    assert log.locator("img, script, iframe, svg, b, [onerror], [onload]").count() == 0
    links = [link.get_attribute("href") for link in log.get_by_role("link").all()]
    assert all(link and link.startswith("https://") for link in links)
    for attack in ATTACKS[:2]:
        expect(log.get_by_text(attack).first).to_be_visible()
    page.reload()
    expect(page.get_by_role("log").locator(".mine")).to_have_count(len(ATTACKS))
    assert page.get_by_role("log").locator("img, script, iframe, svg").count() == 0
    # What an error says is text, too.
    visitor.expect_refusals(400)
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            status=400,
            body=json.dumps({"error": {"message": ATTACKS[0]}, "code": "invalid_request", "error_": ATTACKS[1]}),
        ),
    )
    page.get_by_label("Your message").fill("Once more")
    visitor.button("Send").click()
    expect(page.get_by_role("alert")).to_contain_text(ATTACKS[0])
    assert page.title() == title and page.locator("main img").count() == 0


def test_names_of_models_are_text(visit: Visits) -> None:
    visitor = visit("/docs")
    name = ATTACKS[0]

    def renamed(route: Any) -> None:
        answer = route.fetch()
        listed = answer.json()
        for one in listed["data"]:
            one["display_name"] = name
        route.fulfill(response=answer, json=listed)

    visitor.page.route("**/v1/models", renamed)
    visitor.go("/#prices")
    visitor.deposit()
    expect(visitor.page.get_by_label("Model")).to_contain_text(name)
    expect(visitor.page.get_by_role("rowheader", name=name).first).to_be_visible()
    assert visitor.page.locator("main img").count() == 0


def test_a_code_block_is_copied_as_it_was_written(visit: Visits, model: ScriptedModel) -> None:
    visitor = visit(viewport=NARROW, color_scheme="dark")
    visitor.deposit()
    code = "def f(x):\n    return f'{x} < 3 && \"é\"'\n"
    model.says(f"Use **this**:\n\n```python\n{code}```\n\n1. one\n2. two\n\n> a quotation\n")
    answer = visitor.ask("Code, please.")
    expect(answer.locator("strong")).to_have_text("this")
    expect(answer.get_by_role("listitem")).to_have_count(2)
    answer.get_by_role("button", name="Copy the code").click()
    expect(answer.get_by_text("Copied")).to_be_visible()
    assert visitor.page.evaluate("navigator.clipboard.readText()") == code
    visitor.assert_accessible()
    visitor.assert_large_enough()


def test_the_markdown_reader_is_the_one_that_was_published(modules: Path) -> None:
    import satmeter.http.pages.assets as of_pages

    ours = Path(of_pages.__file__).with_name("static") / "markdown-it.js"
    published = modules / "markdown-it" / "dist" / "browser" / "markdown-it.esm.min.mjs"
    assert ours.read_bytes() == published.read_bytes()

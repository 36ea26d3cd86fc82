"""The operator's page in a browser: at both widths, light and dark, by keyboard, and without JavaScript.

`PAGES_SHOTS=FOLDER` keeps a picture of each state, to be looked at by eye.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from tests.clients.pages.conftest import OPERATOR_TOKEN
from tests.clients.pages.visits import NARROW, WIDE, Visit
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served

Visits = Callable[..., Visit]
EVIL = "<img src=x onerror=alert(1)>"
_SHOTS = os.environ.get("PAGES_SHOTS")
_LOOKS = [(width, scheme) for width in (NARROW, WIDE) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def used(site: Served) -> dict[str, Any]:
    """A server that has been used: a session with requests and a refund, and a job. Returns the audit's report."""
    client = site.client
    session = client.post("/sessions", json={"amountSats": 1_000}).json()
    client.post(f"/dev/stub/pay/{session['depositInvoice']['paymentHash']}")
    bearer = {"Authorization": f"Bearer {session['macaroon']}"}
    for number in range(3):
        path = f"/sessions/{session['sessionId']}/request"
        assert client.post(path, json={"request": f"say {number}"}, headers=bearer).status_code == 200
    invoice = client.post("/dev/stub/invoice", json={"amountSats": 400}).json()
    body = {"paymentRequest": invoice["paymentRequest"]}
    assert client.post(f"/sessions/{session['sessionId']}/close", json=body, headers=bearer).status_code == 200
    report = site.data_dir.parent / "report.json"
    command = [str(Path(sys.executable).with_name("satmeter")), "audit", "--json", str(report)]
    words = ["--data-dir", str(site.data_dir)]
    ran = subprocess.run([*command, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(json.loads(report.read_text()))


def _entered(visitor: Visit) -> Page:
    page = visitor.page
    page.get_by_label("Operator token").fill(OPERATOR_TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="How the server is doing")).to_be_visible()
    return page


def _figure(page: Page, name: str) -> str:
    text = page.locator("dt", has_text=re.compile(f"^{name}$")).locator("..").locator(".value").inner_text()
    return str(text)


def _picture(page: Page, name: str) -> None:
    if _SHOTS:
        page.screenshot(path=str(Path(_SHOTS) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize(("width", "scheme"), _LOOKS, ids=[f"{width['width']}-{scheme}" for width, scheme in _LOOKS])
@pytest.mark.usefixtures("used")
def test_every_state_is_for_all(visit: Visits, width: dict[str, int], scheme: str) -> None:
    visitor = visit("/operator", viewport=width, color_scheme=scheme)
    name = f"{width['width']}-{scheme}"
    _picture(visitor.page, f"operator-sign-in-{name}")
    visitor.assert_accessible()
    page = _entered(visitor)
    for span in ("7 days", "90 days", "24 hours"):
        page.get_by_role("link", name=span).click()
        expect(page.get_by_role("heading", name=f"Money in the last {span}")).to_be_visible()
    page.get_by_text("As a table").first.click()
    _picture(page, f"operator-{name}")
    visitor.assert_accessible()
    visitor.assert_large_enough()


def test_the_figures_are_those_of_the_audit(visit: Visits, used: dict[str, Any]) -> None:
    assert used["differenceCount"] == 0 and used["hoursCompared"] >= 1
    kinds, page = (used["sessions"], used["jobs"]), _entered(visit("/operator"))
    spent, received, refunded = (sum(kind[name] for kind in kinds) for name in ("spent", "received", "refunded"))
    fees = sum(kind["fees"] for kind in kinds)
    assert _figure(page, "Takings") == f"{(spent - fees) // 1_000:,} sats"
    assert _figure(page, "Paid in") == f"{received // 1_000:,} sats"
    assert _figure(page, "Paid back") == f"{refunded // 1_000:,} sats"
    expect(page.get_by_text("Is the server solvent?").locator("..")).to_contain_text("Yes")


def test_all_of_it_works_by_keyboard(visit: Visits, used: dict[str, Any]) -> None:
    visitor = visit("/operator")
    visitor.expect_refusals(401)
    page = visitor.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the page's content")).to_be_focused()
    page.get_by_label("Operator token").focus()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not the operator's token")
    _entered(visitor)
    page.get_by_role("link", name="90 days").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Money in the last 90 days")).to_be_visible()
    page.get_by_text("As a table").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader", name="Takings")).to_be_visible()
    page.get_by_label("Every minute").focus()
    page.keyboard.press("Space")
    page.reload()
    expect(page.get_by_label("Every minute")).to_be_checked()
    visitor.button("Sign out").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Operator token")).to_be_visible()


def test_it_needs_no_javascript(visit: Visits, used: dict[str, Any]) -> None:
    page = _entered(visit("/operator", java_script_enabled=False))
    expect(page.get_by_role("img", name=re.compile("Takings and cost"))).to_be_visible()
    expect(page.get_by_label("Every minute")).to_be_hidden()


def test_markup_in_a_name_or_a_reason_is_text(visit: Visits, site: Served, used: dict[str, Any]) -> None:
    """Last of all: what it puts into the store is in no journal."""
    (socket,) = site.data_dir.rglob("valkey.sock")
    with Redis(unix_socket_path=str(socket)) as store:
        server_s, _ = store.time()
        store.hincrby("satmeter:{p0000}:sums", f"{server_s // 3_600}:model_calls:{EVIL}", 1)
    page = _entered(visit("/operator"))
    page.goto(f"/operator?looked={EVIL}&span={EVIL}")
    expect(page.get_by_text(EVIL)).to_have_count(1)
    assert page.locator("img[src=x]").count() == 0

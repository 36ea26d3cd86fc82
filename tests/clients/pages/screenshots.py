"""Pictures of the pages for the documents, taken from a running server with stubs: scripts/screenshots runs this."""

from __future__ import annotations

import base64
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from tests.clients.pages.visits import FLAGS, NARROW, WIDE, ScriptedModel, Visit
from tests.helpers.patience import PATIENCE_S
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, free_port, served, wait_until

SHOTS: Final = Path(__file__).parents[3] / "docs/assets/shots"
# All of them together, in the repository.
BYTES_MAX: Final = 2_000_000
_QUALITY: Final = 82
OPERATOR_TOKEN: Final = "one-token-of-an-operator-at-work"
ANSWER: Final = """A sextant measures the **angle** between two things that you can see.

1. Your *latitude*, by the height of the sun at noon.
2. Your distance from a lighthouse whose height is known.
3. The time, by the moon's distance from a star.
"""

NOTE: Final = """Dear Ms Albrecht,

thank you for watering the plants while we were away. The tomatoes have never looked better, and the first ripe ones
are yours.

Your neighbours
"""


def take(name: str, visit: Visit, top: Locator | None = None, *, height: int | None = None) -> None:
    """Take the part of the page that begins at `top`, as high as a screen if `height` is not given, as WebP."""
    page = visit.page
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement?.blur()")
    size = page.viewport_size or NARROW
    whole: int = page.evaluate("document.documentElement.scrollHeight")
    box = None if top is None else top.bounding_box()
    start = 0.0 if box is None else max(0.0, box["y"] + page.evaluate("scrollY") - 12)
    clip = {"x": 0, "y": start, "width": size["width"], "height": min(height or size["height"], whole - start)}
    session = page.context.new_cdp_session(page)
    words = {"format": "webp", "quality": _QUALITY, "captureBeyondViewport": True, "clip": {**clip, "scale": 1}}
    picture = session.send("Page.captureScreenshot", words)
    (SHOTS / f"{name}.webp").write_bytes(base64.b64decode(picture["data"]))


class Studio:
    """A server, its model, and a browser."""

    def __init__(self, browser: Browser, site: Served, model: ScriptedModel) -> None:
        self.model = model
        self.client = site.client
        self._browser = browser
        self._site = site

    @contextmanager
    def visit(self, path: str, width: dict[str, int], scheme: str) -> Iterator[Visit]:
        """Open a page, on a phone's screen with twice the pixels."""
        options: dict[str, Any] = {"viewport": width, "color_scheme": scheme}
        options["device_scale_factor"] = 2 if width == NARROW else 1
        visitor = Visit(self._browser, self._site.url, Path(), options)
        visitor.go(path)
        try:
            yield visitor
        finally:
            visitor.close()
        visitor.assert_quiet()


def _card(visitor: Visit) -> Locator:
    """Return the card that the person looks at."""
    return visitor.page.locator("main .card").first


def session(studio: Studio) -> None:
    """Take a session from the deposit to the rest that is back."""
    with studio.visit("/", NARROW, "light") as visitor:
        page = visitor.page
        expect(visitor.button("Show the invoice")).to_be_visible()
        take("session-deposit", visitor)
        visitor.button("Show the invoice").click()
        expect(visitor.button("Pay with the stub")).to_be_visible()
        code = page.get_by_role("img", name="QR code of the invoice")
        code.evaluate("(picture) => picture.decode()")
        take("session-invoice", visitor, _card(visitor), height=900)
        visitor.button("Pay with the stub").click()
        expect(page.get_by_label("Your message")).to_be_visible()
        studio.model.says(ANSWER)
        visitor.ask("What is a sextant good for?")
        take("session-answer", visitor, _card(visitor))
        visitor.button("Top up").click()
        visitor.button("Show the invoice").click()
        expect(visitor.button("Pay with the stub")).to_be_visible()
        page.get_by_role("img", name="QR code").first.evaluate("(picture) => picture.decode()")
        take("session-top-up", visitor, _card(visitor), height=900)
        visitor.button("Not now").click()
        visitor.unfold("A key for a helper")
        page.get_by_label("Name, for the ledger").fill("gardener")
        page.get_by_label("Spends at most, in sats").fill("50")
        page.get_by_label("Counted").select_option(index=2)
        visitor.button("Make the key").click()
        helper = page.get_by_role("region", name="The helper\u2019s key")
        expect(helper).to_be_visible()
        take(
            "session-helper", visitor, page.locator("summary").get_by_text("A key for a helper", exact=True), height=980
        )
        visitor.unfold("A key for a helper")
        visitor.unfold("Use it in programs")
        take("session-programs", visitor, page.locator("summary").get_by_text("Use it in programs", exact=True))
        visitor.unfold("Use it in programs")
        visitor.unfold("Finish, and take the rest back")
        visitor.button("Close, and show the code").click()
        rest = page.get_by_role("img", name="QR code to take the rest back")
        expect(rest).to_be_visible()
        rest.evaluate("(picture) => picture.decode()")
        take("session-take-back", visitor, _card(visitor))
        visitor.button("By address or invoice instead").click()
        visitor.button("Use an invoice of the stub").click()
        expect(page.get_by_label("Lightning address or invoice")).not_to_have_value("")
        visitor.button("Pay it back").click()
        expect(page.get_by_text("paid back.").first).to_be_visible()
        take("session-paid-back", visitor, _card(visitor), height=620)


def session_wide(studio: Studio) -> None:
    """Take a conversation on a large screen, in the dark."""
    with studio.visit("/", WIDE, "dark") as visitor:
        visitor.deposit()
        studio.model.says(ANSWER)
        visitor.ask("What is a sextant good for?")
        take("session-wide-dark", visitor)


def job(studio: Studio) -> None:
    """Take a job from the request to the rest that is back."""
    with studio.visit("/#job", NARROW, "light") as visitor:
        page = visitor.page
        page.get_by_label("Your request").fill("Write a short note to a neighbour who watered the plants.")
        take("job-request", visitor)
        visitor.button("Show the invoice").click()
        _head(visitor, "Pay for the evaluation")
        page.get_by_role("img", name="QR code of the invoice").evaluate("(picture) => picture.decode()")
        take("job-evaluation", visitor, _card(visitor), height=960)
        visitor.button("Pay with the stub").click()
        _head(visitor, "Your work has a price")
        visitor.unfold("Why this price?")
        page.get_by_role("img", name="QR code of the invoice").evaluate("(picture) => picture.decode()")
        take("job-price", visitor, _card(visitor), height=1180)
        studio.model.says(NOTE)
        visitor.button("Pay with the stub").click()
        _head(visitor, "Here is your result")
        take("job-result", visitor, _card(visitor), height=1160)
        visitor.button("Use an invoice of the stub").click()
        expect(page.get_by_label("Lightning address or invoice")).not_to_have_value("")
        visitor.button("Pay it back").click()
        expect(page.get_by_role("heading", name=re.compile("sats? paid back"))).to_be_visible()
        take("job-paid-back", visitor, _card(visitor))


def job_rejected(studio: Studio) -> None:
    """Take a job that the evaluation rejected, in the dark."""
    with studio.visit("/#job", NARROW, "dark") as visitor:
        visitor.page.get_by_label("Your request").fill("[reject] Something that no model should do.")
        visitor.button("Show the invoice").click()
        _head(visitor, "Pay for the evaluation")
        visitor.button("Pay with the stub").click()
        _head(visitor, "The request was rejected")
        take("job-rejected", visitor, _card(visitor), height=620)


def pay_page(studio: Studio) -> None:
    """Take the page of one invoice, which a program without a credential is pointed to."""
    told = studio.client.post("/ask", json={"request": "Name three uses of a sextant."}).json()
    with studio.visit(urlsplit(told["payPage"]).path, NARROW, "light") as visitor:
        visitor.page.get_by_role("img", name="QR code of the invoice").evaluate("(picture) => picture.decode()")
        take("pay-page", visitor)


def operator(studio: Studio) -> None:
    """Take the operator's page of a server that has been used for a while."""
    for number in range(6):
        opened = studio.client.post("/sessions", json={"amountSats": 500 + 250 * number}).json()
        studio.client.post(f"/dev/stub/pay/{opened['depositInvoice']['paymentHash']}")
        bearer = {"Authorization": f"Bearer {opened['macaroon']}"}
        for text in ("What is a sextant?", "And an astrolabe?", "And a quadrant?"):
            studio.client.post(f"/sessions/{opened['sessionId']}/request", json={"request": text}, headers=bearer)
        if number % 2:
            invoice = studio.client.post("/dev/stub/invoice", json={"amountSats": 300}).json()
            body = {"paymentRequest": invoice["paymentRequest"]}
            studio.client.post(f"/sessions/{opened['sessionId']}/close", json=body, headers=bearer)
    for text in ("Write a haiku about fees.", "[reject] Something odd", "Name three uses of a sextant."):
        _buy(studio.client, text)
    with studio.visit("/operator", NARROW, "light") as visitor:
        take("operator-sign-in", visitor, height=520)
        # The treasury looks at the wallet every ten seconds; the money must be in the picture.
        visitor.page.wait_for_timeout(12_000)
    with studio.visit("/operator", NARROW, "light") as visitor:
        _enter(visitor)
        take("operator-narrow", visitor, height=1100)
    with studio.visit("/operator", WIDE, "light") as visitor:
        _enter(visitor)
        take("operator-wide", visitor, height=1500)


def _buy(client: httpx.Client, text: str) -> None:
    """Buy a job through, unless it is rejected."""
    bought = client.post("/jobs", json={"request": text}).json()
    path = f"/jobs/{bought['jobId']}"
    client.post(f"/dev/stub/pay/{bought['evalInvoice']['paymentHash']}")
    wait_until(lambda: client.get(path).json()["state"] in {"awaiting_work_payment", "rejected"}, PATIENCE_S, "a price")
    if client.get(path).json()["state"] != "rejected":
        client.post(f"/dev/stub/pay/{client.get(path).json()['workInvoice']['paymentHash']}")
        wait_until(lambda: client.get(path).json()["state"] == "complete", PATIENCE_S, "the result")


def _enter(visitor: Visit) -> None:
    visitor.page.get_by_label("Operator token").fill(OPERATOR_TOKEN)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("heading", name="How the server is doing")).to_be_visible()


def _head(visitor: Visit, name: str) -> None:
    expect(visitor.page.get_by_role("heading", name=name, exact=True)).to_be_visible()


PARTS: Final[tuple[Callable[[Studio], None], ...]] = (session, session_wide, job, job_rejected, pay_page, operator)


@contextmanager
def _studio() -> Iterator[Studio]:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is not on the PATH; .ci/packages installs it.")
    port, model = free_port(), ScriptedModel()
    settings = {
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": model.url,
        "SATMETER_HOSTS": "1",
        "SATMETER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "OPERATOR_TOKEN": OPERATOR_TOKEN,
    }
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            with served(Path(directory) / "data", port, **settings) as site:
                yield Studio(browser, site, model)
        finally:
            browser.close()
            model.close()


def main() -> None:
    """Take the pictures of all parts, or of those that are named."""
    names = {part.__name__.replace("_", "-"): part for part in PARTS}
    asked = sys.argv[1:] or list(names)
    if "--list" in asked or not names.keys() >= set(asked):
        raise SystemExit(f"The parts are: {', '.join(names)}")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with _studio() as studio:
        for name in asked:
            studio.model.forget()
            names[name](studio)
    size = sum(file.stat().st_size for file in SHOTS.glob("*.webp"))
    print(f"{len(list(SHOTS.glob('*.webp')))} pictures of {size // 1000} kB in {SHOTS}")  # noqa: T201
    if size > BYTES_MAX:
        raise SystemExit(f"They may have {BYTES_MAX // 1000} kB: take fewer, or smaller ones.")


if __name__ == "__main__":
    main()

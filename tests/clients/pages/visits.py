"""Visits of the pages: a browser's page that notes errors and foreign requests, and a model that a test scripts."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Locator, Page, Request, expect

from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi

FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NARROW: Final = {"width": 390, "height": 844}
WIDE: Final = {"width": 1280, "height": 860}
_CONTROLS: Final = "button, .button, summary, select, input[type=text], textarea, label.check, header a"
_KEY: Final = """() => {
    const name = `satmeter.key.${sessionStorage.getItem("satmeter.current")}`;
    return JSON.parse(sessionStorage.getItem(name) ?? localStorage.getItem(name)).macaroon;
}"""
_SESSION: Final = """async (key) => {
    const entry = document.querySelector("script[type=module]").src;
    const {sessionOf} = await import(entry.replace("home.js", "macaroon.js"));
    return (await fetch(`/sessions/${sessionOf(key)}`, {headers: {authorization: `Bearer ${key}`}})).json();
}"""
_REFUSED: Final = re.compile(r"status of (\d+)")
expect.set_options(timeout=PATIENCE_S * 1_000 / 4)


class _Scripted(StubMessagesApi):
    """Stub that says a text instead of its own."""

    text = ""
    reason = ""

    def _message(self, body: Mapping[str, Any], prompt: Any) -> dict[str, Any]:
        message = super()._message(body, prompt)
        if self.text and message["content"][0]["text"].startswith("This is"):
            message["content"][0]["text"] = self.text
            message["usage"]["output_tokens"] = len(self.text) // 4 + 1
        elif self.reason and message["content"][0]["text"].startswith("{"):
            verdict = json.loads(message["content"][0]["text"])
            message["content"][0]["text"] = json.dumps({**verdict, "reason": self.reason})
        return message


class ScriptedModel(MessagesApi):
    """A Messages API that says what a test wants, and can be held up in the middle of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self._scripted = self._stub = _Scripted()

    def says(self, text: str) -> None:
        """Answers are this text from now on."""
        self._scripted.text = text

    def reasons(self, text: str) -> None:
        """Verdicts have this reason from now on."""
        self._scripted.reason = text

    def forget(self) -> None:
        """Answers are the stub's own from now on."""
        self._scripted.text = self._scripted.reason = ""


class Visit:
    """One visitor's page."""

    def __init__(self, browser: Browser, url: str, modules: Path, options: Mapping[str, Any]) -> None:
        chosen = {"viewport": WIDE, "reduced_motion": "reduce", "accept_downloads": True, **options}
        self.context = browser.new_context(base_url=url, **chosen)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.url = url
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.refusals_expected: set[int] = set()
        self._modules = modules
        self.context.on("request", self._asked)
        self.page = self.another()

    def another(self) -> Page:
        """Return another tab of the same visitor."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_S * 1_000 / 4)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self._said(said.text) if said.type == "error" else None)
        return page

    def go(self, path: str = "/") -> None:
        """Load a page."""
        self.page.goto(path)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:", "lightning:")):
            self.foreign.append(request.url)

    def _said(self, text: str) -> None:
        refused = _REFUSED.search(text)
        if refused and int(refused[1]) in self.refusals_expected:
            return
        if "net::ERR_" in text and 0 in self.refusals_expected:
            return
        self.errors.append(text)

    def expect_refusals(self, *statuses: int) -> None:
        """Let the console tell of answers with these statuses; 0 is a connection that breaks."""
        self.refusals_expected.update(statuses)

    def close(self) -> None:
        """Leave."""
        self.context.close()

    def assert_quiet(self) -> None:
        """Fail after an error in the console, or a request to another host."""
        assert not self.errors, self.errors
        assert not self.foreign, self.foreign

    def assert_accessible(self, page: Page | None = None) -> None:
        """Fail with what axe-core finds on the page as it is."""
        shown = page or self.page
        shown.evaluate((self._modules / "axe-core" / "axe.min.js").read_text())
        found = shown.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        told = [(one["id"], node["target"], node["failureSummary"]) for one in found for node in one["nodes"]]
        assert not told, told
        # The page must not be wider than its window.
        wide = shown.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], wide

    def assert_large_enough(self) -> None:
        """Fail with controls that a thumb would miss: less than 44 px high, but for links within a text."""
        small = self.page.evaluate(
            """(controls) => [...document.querySelectorAll(controls)]
            .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 43.5)
            .map((each) => [each.outerHTML.slice(0, 80), each.getBoundingClientRect().height])""",
            _CONTROLS,
        )
        assert not small, small

    def read_code(self, picture: Locator) -> str:
        """Return the text of a QR code as a camera would see it on the screen."""
        picture.evaluate("(picture) => picture.decode()")
        seen = base64.b64encode(picture.screenshot()).decode()
        reader = self.context.new_page()
        try:
            reader.evaluate((self._modules / "jsqr" / "dist" / "jsQR.js").read_text())
            text: str | None = reader.evaluate(
                """async (seen) => {
                    const bytes = Uint8Array.from(atob(seen), (letter) => letter.charCodeAt(0));
                    const bitmap = await createImageBitmap(new Blob([bytes], {type: "image/png"}));
                    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
                    const drawn = canvas.getContext("2d");
                    drawn.drawImage(bitmap, 0, 0);
                    const {data, width, height} = drawn.getImageData(0, 0, bitmap.width, bitmap.height);
                    return jsQR(data, width, height)?.data ?? null;
                }""",
                seen,
            )
        finally:
            reader.close()
        assert text is not None, "the code can't be read"
        return text

    # A person's steps

    def button(self, name: str | re.Pattern[str]) -> Locator:
        """Return the button of this name."""
        return self.page.get_by_role("button", name=name, exact=isinstance(name, str))

    def unfold(self, name: str) -> None:
        """Open what is folded away under this name."""
        self.page.locator("summary").get_by_text(name, exact=True).click()

    def deposit(self, *, pays: bool = True) -> None:
        """Open a session with the amount that is chosen already, and pay it."""
        self.button("Show the invoice").click()
        if pays:
            self.button("Pay with the stub").click()
            expect(self.page.get_by_label("Your message")).to_be_visible()

    def ask(self, text: str) -> Locator:
        """Send a message, and return the answer once it is whole."""
        answers = self.page.get_by_role("log").locator(".said:not(.mine)")
        count = answers.count()
        self.page.get_by_label("Your message").fill(text)
        self.button("Send").click()
        answer = answers.nth(count)
        expect(answer.locator(".cost")).not_to_contain_text("so far")
        expect(self.button("Send")).to_be_visible()
        return answer

    def key(self) -> str:
        """Return the macaroon that the tab uses."""
        macaroon: str = self.page.evaluate(_KEY)
        return macaroon

    def session(self) -> dict[str, Any]:
        """Return the session by the API, asked from the page with its own key."""
        found: dict[str, Any] = self.page.evaluate(_SESSION, self.key())
        return found


class Keys:
    """A person without a mouse."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def to(self, role: str, name: str) -> None:
        """Press Tab until the focus is there. A screen reader would say this role and name."""
        self._reach(self._page.get_by_role(role, name=name, exact=True), f"the {role} {name!r}")  # type: ignore[arg-type]

    def unfold(self, name: str) -> None:
        """Open what is folded away under this name."""
        self._reach(self._page.locator("summary").get_by_text(name, exact=True), name)
        self._page.keyboard.press("Enter")

    def _reach(self, sought: Locator, told: str) -> None:
        expect(sought).to_be_visible()
        for _ in range(60):
            if sought.evaluate("(sought) => sought === document.activeElement"):
                return
            self._page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not lead to {told}")

    def press(self, role: str, name: str, key: str = "Enter") -> None:
        """Go there, and press a key."""
        self.to(role, name)
        shown = self._page.evaluate(
            """() => {
                const at = getComputedStyle(document.activeElement);
                return at.outlineStyle !== "none" && parseFloat(at.outlineWidth) >= 2;
            }"""
        )
        assert shown, f"no ring around the {role} {name!r}"
        self._page.keyboard.press(key)

    def write(self, text: str) -> None:
        """Write at the focus."""
        self._page.keyboard.insert_text(text)

"""Browsers of other engines, by WebDriver: Firefox by its Marionette, WebKitGTK by its driver on a display of memory.

Playwright drives Chromium in the other tests. It has no way to the Firefox and the WebKit of the system.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import httpx

from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import free_port, wait_until

ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
_MINI_BROWSER: Final = "/usr/lib/*/webkit2gtk-4.1/MiniBrowser"
# Its bars would keep the window wider than a phone.
_SMALL_BARS: Final = "* { min-width: 0; padding: 0; margin: 0; border: 0; font-size: 4px; -gtk-icon-style: symbolic; }"
_QUIET: Final = {
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "marionette.port": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:9/",
    "toolkit.telemetry.server": "",
}


class RefusedByBrowserError(Exception):
    """The browser answered a command with an error; the text begins with its name."""


class Browser:
    """One page of a browser. `command` takes the names of Marionette, `ElementClick` say."""

    def __init__(
        self, command: Callable[[str, dict[str, Any]], Any], name: str, errors: Callable[[], list[str]]
    ) -> None:
        self.command = command
        self.name = name
        self.errors = errors

    def go(self, url: str) -> None:
        """Load a page."""
        self.command("Navigate", {"url": url})

    def reload(self) -> None:
        """Load the page again."""
        self.command("Refresh", {})

    def size(self, width: int, height: int) -> None:
        """Give the page this much room; the window is larger by its own bars."""
        bars = [0, 0]

        def fits() -> bool:
            self.command("SetWindowRect", {"width": width + bars[0], "height": height + bars[1]})
            seen = self.run("return [innerWidth, innerHeight]")
            bars[:] = max(0, bars[0] + width - seen[0]), max(0, bars[1] + height - seen[1])
            return bool(seen == [width, height])

        self.wait(fits, f"{width} by {height} px")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of a function in the page, and return what it returns."""
        return _value(self.command("ExecuteScript", {"script": script, "args": list(arguments)}))

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG file."""
        path.write_bytes(base64.b64decode(_value(self.command("TakeScreenshot", {"full": False}))))

    # A person's steps

    def shown(self, tag: str, text: str) -> dict[str, str] | None:
        """Return the visible element of these tags whose own name has this text."""
        found: dict[str, str] | None = self.run(
            """const [tag, text] = arguments;
            const named = (one) => [one.innerText, one.getAttribute("aria-label"), one.labels?.[0]?.innerText]
                .some((name) => name?.replace(/\\s+/g, " ").includes(text));
            return [...document.querySelectorAll(tag)].find((one) => one.checkVisibility() && named(one)) ?? null;""",
            tag,
            text,
        )
        return found

    def find(self, tag: str, text: str = "") -> str:
        """Wait for such an element, and return its reference."""
        found: list[str] = []

        def there() -> bool:
            # The page may draw it again at any moment: what was seen is what is meant.
            if element := self.shown(tag, text):
                found.append(element[ELEMENT])
            return bool(found)

        self.wait(there, f"{tag} {text!r}")
        return found[0]

    def click(self, tag: str, text: str) -> None:
        """Click in the middle of it, as a mouse does."""

        def clicked() -> bool:
            element = self.find(tag, text)
            try:
                self.command("ElementClick", {"id": element})
            except RefusedByBrowserError as error:
                # The page drew it again just now, or moves it.
                if str(error).startswith(("stale element", "element not interactable", "element click intercepted")):
                    return False
                raise
            return True

        self.wait(clicked, f"click on {tag} {text!r}")

    def write(self, tag: str, text: str, words: str) -> None:
        """Press the keys of these words in a field that is emptied first."""
        element = self.find(tag, text)
        self.command("ElementClear", {"id": element})
        self.command("ElementSendKeys", {"id": element, "text": words})

    def see(self, text: str) -> None:
        """Wait until the page shows this text."""
        self.wait(
            lambda: self.run("return document.body.innerText.replace(/\\s+/g, ' ').includes(arguments[0])", text), text
        )

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Return once the condition of the page holds."""
        wait_until(condition, PATIENCE_S, f"{self.name}: {what}")


def _value(answer: Any) -> Any:
    return answer["value"] if isinstance(answer, dict) and set(answer) == {"value"} else answer


# Firefox


# What a page itself caused: scripts that failed, and what its policy refused.
_ERRORS: Final = """return Services.console.getMessageArray()
    .filter((one) => one instanceof Ci.nsIScriptError && /^(http|inline)/.test(one.sourceName || "inline"))
    .filter((one) => one.innerWindowID && !(one.flags & Ci.nsIScriptError.warningFlag))
    .map((one) => `${one.sourceName}:${one.lineNumber}: ${one.errorMessage}`);"""


def firefox() -> str | None:
    """Return the system's Firefox. One from a snap could not read the profile, and has another name."""
    return shutil.which("firefox-esr")


@contextmanager
def running_firefox(program: str, preferences: Mapping[str, Any] | None = None) -> Iterator[Browser]:
    """Start Firefox with a profile of its own."""
    with ExitStack() as stack:
        profile = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ff-", ignore_cleanup_errors=True)))
        chosen = {**_QUIET, **(preferences or {})}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in chosen.items()]
        (profile / "user.js").write_text("\n".join(lines))
        words = [program, "--marionette", "--remote-allow-system-access", "--headless", "--profile", str(profile)]
        stack.enter_context(_running(words, {"HOME": str(profile), "XDG_CONFIG_HOME": str(profile)}))
        told = profile / "MarionetteActivePort"
        wait_until(lambda: told.exists() and told.read_text().strip(), PATIENCE_S, "Firefox did not start")
        with socket.create_connection(("127.0.0.1", int(told.read_text())), PATIENCE_S) as wire:
            yield _by_marionette(wire)


def _by_marionette(wire: socket.socket) -> Browser:
    lines = wire.makefile("rb")

    def read() -> Any:
        length = b""
        while (digit := lines.read(1)) != b":":
            assert digit, "Firefox has ended"
            length += digit
        return json.loads(lines.read(int(length)))

    def command(name: str, parameters: dict[str, Any], of: str = "WebDriver") -> Any:
        sent = json.dumps([0, 1, f"{of}:{name}", parameters]).encode()
        wire.sendall(str(len(sent)).encode() + b":" + sent)
        _, _, error, result = read()
        if error:
            raise RefusedByBrowserError(f"{error['error']}: {error['message']}")
        return result

    read()
    told = command("NewSession", {"capabilities": {"alwaysMatch": {"unhandledPromptBehavior": "accept"}}})
    # Its bars would keep the window wider than a phone.
    command("SetContext", {"value": "chrome"}, "Marionette")
    command("ExecuteScript", {"script": "document.documentElement.style.minWidth = 0", "args": []})
    command("SetContext", {"value": "content"}, "Marionette")

    def errors() -> list[str]:
        command("SetContext", {"value": "chrome"}, "Marionette")
        found: list[str] = command("ExecuteScript", {"script": _ERRORS, "args": []})["value"]
        command("SetContext", {"value": "content"}, "Marionette")
        return found

    return Browser(command, f"Firefox {told['capabilities']['browserVersion']}", errors)


# WebKit

_PATHS: Final = {
    "Navigate": ("POST", "url"),
    "Refresh": ("POST", "refresh"),
    "ExecuteScript": ("POST", "execute/sync"),
    "GetWindowRect": ("GET", "window/rect"),
    "SetWindowRect": ("POST", "window/rect"),
    "TakeScreenshot": ("GET", "screenshot"),
    "PerformActions": ("POST", "actions"),
    "ElementClick": ("POST", "element/{id}/click"),
    "ElementClear": ("POST", "element/{id}/clear"),
    "ElementSendKeys": ("POST", "element/{id}/value"),
}


def webkit() -> str | None:
    """Return the system's small browser of WebKitGTK, where its driver and a display of memory are, too."""
    found = sorted(Path("/").glob(_MINI_BROWSER.lstrip("/")))
    return str(found[-1]) if found and shutil.which("WebKitWebDriver") and shutil.which("Xvfb") else None


@contextmanager
def running_webkit(program: str, environment: Mapping[str, str] | None = None) -> Iterator[Browser]:
    """Start WebKitGTK's browser with a profile of its own."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wk-", ignore_cleanup_errors=True)))
        display = stack.enter_context(_display(home))
        port = free_port()
        style = home / ".config" / "gtk-3.0" / "gtk.css"
        style.parent.mkdir(parents=True)
        style.write_text(_SMALL_BARS)
        # The data of the browser go to a home of its own, its window to the display of memory on any desktop.
        here = {"DISPLAY": display, "GDK_BACKEND": "x11", "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
        said = stack.enter_context((home / "said").open("w+b"))
        stack.enter_context(_running(["WebKitWebDriver", f"--port={port}"], {**here, **(environment or {})}, said))
        client = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False)
        )

        def answers() -> bool:
            with suppress(httpx.HTTPError):
                return client.get("/status").is_success
            return False

        wait_until(answers, PATIENCE_S, "WebKit's driver did not start")
        options = {"binary": program, "args": ["--automation", "--enable-write-console-messages-to-stdout=true"]}
        wanted = {"browserName": "MiniBrowser", "webkitgtk:browserOptions": options}
        made = _answer(client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}))
        session = f"/session/{made['sessionId']}"

        def command(name: str, parameters: dict[str, Any]) -> Any:
            method, path = _PATHS[name]
            body = None if method == "GET" else {key: value for key, value in parameters.items() if key != "id"}
            return _answer(client.request(method, f"{session}/{path.format_map(parameters)}", json=body))

        try:
            yield Browser(
                command, f"WebKitGTK {made['capabilities']['browserVersion']}", lambda: _console(home / "said")
            )
        finally:
            client.delete(session)


def _console(said: Path) -> list[str]:
    return [
        line
        for line in said.read_text(errors="replace").splitlines()
        if line.startswith("CONSOLE") and " ERROR " in line
    ]


def _answer(answer: httpx.Response) -> Any:
    value = answer.json()["value"]
    if not answer.is_success:
        raise RefusedByBrowserError(f"{value['error']}: {value['message']}")
    return value


@contextmanager
def _display(home: Path) -> Iterator[str]:
    """Start a display of memory; it finds a free number itself, and says so."""
    said, says = os.pipe()
    with os.fdopen(said) as reader:
        screen = ["-screen", "0", "1400x1100x24", "-nolisten", "tcp"]
        with _running(["Xvfb", "-displayfd", str(says), *screen], {"HOME": str(home)}, passed=(says,)):
            os.close(says)
            yield f":{reader.readline().strip()}"


@contextmanager
def _running(
    words: list[str], environment: Mapping[str, str], out: IO[bytes] | None = None, passed: tuple[int, ...] = ()
) -> Iterator[None]:
    """Run a program with what it starts itself, until the block ends."""
    process = subprocess.Popen(
        ending_with_us(words),
        env={**os.environ, **environment},
        stdout=out or subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=passed,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE_S / 4)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

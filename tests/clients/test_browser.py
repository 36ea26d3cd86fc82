"""Headless Chromium with a page of another origin: both SDKs, an L402 challenge, and what a page must not read."""

from __future__ import annotations

import functools
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.helpers import installed
from tests.helpers.patience import PROGRAM_S
from tests.helpers.served import Served

_PAGE: Final = Path(__file__).with_name("browser")
_HTML: Final = '<!doctype html><title>page</title><body><script type="module" src="bundle.js"></script>'


class _PageHandler(SimpleHTTPRequestHandler):
    """Handler that serves the page, and takes what it found."""

    found: queue.Queue[Any]

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder with the page and the SDKs' browser bundles."""
    if shutil.which("chromium") is None:
        pytest.fail("The browser check needs Chromium on the PATH; .ci/packages installs it.", pytrace=False)
    try:
        modules = installed.node_modules(_PAGE, "browser")
    except installed.NotInstalledError as error:
        pytest.fail(f"{error}; install it.", pytrace=False)
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copy(_PAGE / "page.js", tmp_path)
    words = ["page.js", "--bundle", "--format=esm", "--platform=browser", "--outfile=bundle.js", "--log-level=error"]
    subprocess.run([str(modules / ".bin" / "esbuild"), *words], cwd=tmp_path, check=True, timeout=PROGRAM_S)
    (tmp_path / "page.html").write_text(_HTML)
    return tmp_path


@contextmanager
def _chromium(url: str, profile: Path) -> Iterator[None]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    words = ["chromium", *flags, f"--user-data-dir={profile}", "--remote-debugging-port=0", url]
    browser = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        os.killpg(browser.pid, signal.SIGTERM)
        browser.wait(PROGRAM_S)


def test_a_page_of_another_origin_pays_and_uses_both_sdks(server: Served, page: Path) -> None:
    found: queue.Queue[Any] = queue.Queue()
    handler = type("Handler", (_PageHandler,), {"found": found})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(page))) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{files.server_port}/page.html?server={server.url}"
        try:
            with _chromium(address, page / "profile"):
                told = found.get(timeout=PROGRAM_S)
        finally:
            files.shutdown()
    assert told == {
        # The statuses before and after the payment; the cost and the request's id could be read.
        "l402": [402, 200, True, True],
        "anthropic": "text",
        "anthropicStream": True,
        "chat": "stop",
        "chatStream": True,
        "responses": "completed",
        "badKey": [401, True],
        "notFound": 404,
        # The browser does not let the page read it.
        "metrics": "TypeError",
    }

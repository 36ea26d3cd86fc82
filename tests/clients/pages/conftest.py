"""Fixtures of the pages' tests: a server with stubs whose model a test scripts, and the system's Chromium."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.clients.pages.visits import FLAGS, ScriptedModel, Visit
from tests.helpers import installed
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, free_port, served

OPERATOR_TOKEN = "the operator's token of the pages' tests"
_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def modules() -> Path:
    """The libraries of the tests: they look for faults of access, and read QR codes."""
    try:
        return installed.node_modules(_HERE, "pages")
    except installed.NotInstalledError as error:
        pytest.fail(f"{error}; install it.", pytrace=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser. Each visit has a profile of its own in it."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("The pages' tests need Chromium on the PATH; .ci/packages installs it.", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def model() -> Iterator[ScriptedModel]:
    """The model behind the server."""
    scripted = ScriptedModel()
    yield scripted
    scripted.close()


@pytest.fixture(scope="session")
def site(model: ScriptedModel) -> Iterator[Served]:
    """The server that the pages are of."""
    port = free_port()
    settings = {
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": model.url,
        "SATMETER_HOSTS": "1",
        "OPERATOR_TOKEN": OPERATOR_TOKEN,
        "SATMETER_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    with (
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory,
        served(Path(directory) / "data", port, **settings) as running,
    ):
        yield running


@pytest.fixture
def visit(browser: Browser, site: Served, modules: Path, model: ScriptedModel) -> Iterator[Callable[..., Visit]]:
    """Opens a page for a visitor with a storage of its own; keywords are those of a browser context.

    At the end no page may have had an error in its console, or have asked another host for anything.
    """
    visits: list[Visit] = []

    def visited(path: str = "/", **options: Any) -> Visit:
        visits.append(Visit(browser, site.url, modules, options))
        visits[-1].go(path)
        return visits[-1]

    model.forget()
    yield visited
    model.let_go()
    for one in visits:
        one.close()
    for one in visits:
        one.assert_quiet()

"""The site of the documentation, built once for all tests of it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import installed
from tests.helpers.patience import PROGRAM_S

ROOT = Path(__file__).parents[2]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def mkdocs() -> list[str]:
    """The words of the site's own program, with exactly the packages of its lock."""
    try:
        python = installed.python_with(ROOT / ".ci/docs.lock", "docs")
    except installed.NotInstalledError as error:
        pytest.fail(f"{error}; the site can't be built.", pytrace=False)
    return [python, "-m", "mkdocs"]


@pytest.fixture(scope="session")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document of this version, as scripts/docs makes it."""
    file = tmp_path_factory.mktemp("openapi") / "openapi.json"
    with file.open("wb") as out:
        subprocess.run([sys.executable, "-m", "satmeter.scripts.openapi_document"], stdout=out, check=True, cwd=ROOT)
    return file


@pytest.fixture(scope="session")
def environment(openapi: Path) -> dict[str, str]:
    """The environment of a build."""
    return {**os.environ, "SATMETER_OPENAPI": str(openapi), "NO_MKDOCS_2_WARNING": "1"}


@pytest.fixture(scope="session")
def site(mkdocs: list[str], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built site. Fails with what the strict build says."""
    folder = tmp_path_factory.mktemp("site")
    words = [*mkdocs, "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PROGRAM_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address at which the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()

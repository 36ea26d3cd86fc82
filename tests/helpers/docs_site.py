"""The site of the documentation, built with exactly the packages of its lock, and served."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tests.helpers import installed
from tests.helpers.patience import PROGRAM_S

ROOT: Final = Path(__file__).parents[2]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


def build(into: Path, sources: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Build the site strictly, with its OpenAPI document as scripts/docs makes it. Raises `NotInstalledError`."""
    python = installed.python_with(ROOT / ".ci/docs.lock", "docs")
    openapi = into.with_suffix(".openapi.json")
    with openapi.open("wb") as out:
        subprocess.run([sys.executable, "-m", "satmeter.scripts.openapi_document"], stdout=out, check=True, cwd=ROOT)
    environment = {**os.environ, "DOCS_OPENAPI": str(openapi), "NO_MKDOCS_2_WARNING": "1"}
    words = [python, "-m", "mkdocs", "build", "--strict", "--site-dir", str(into)]
    return subprocess.run(
        words, cwd=sources, env=environment, capture_output=True, text=True, timeout=PROGRAM_S, check=False
    )


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the files of a folder, and yield the address."""
    handler = functools.partial(_Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()

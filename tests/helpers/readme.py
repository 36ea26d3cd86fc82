"""Snippets of the README and of the pages for users, to be run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.helpers.patience import PROGRAM_S

ROOT: Final = Path(__file__).parents[2]
SERVED_AT: Final = "http://127.0.0.1:8402"
# Pages whose snippets continue in one shell, in the order in which they say so.
PAGES: Final = ("README.md", "docs/http-api.md", "docs/sdks.md", "docs/receipts.md", "docs/operating.md")
_SNIPPET: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _text() -> str:
    return "\n".join((ROOT / page).read_text() for page in PAGES)


def in_order() -> list[tuple[str, str, str]]:
    """Return heading, language and text of every snippet, page after page, from top to bottom."""
    heading, found = "", []
    for match in re.finditer(rf"^#+ ([^\n]+)$|{_SNIPPET.pattern}", _text(), re.MULTILINE | re.DOTALL):
        if match[1] and not match[2]:
            heading = match[1]
        elif match[2]:
            found.append((heading, match[2], match[3]))
    return found


def snippets(heading: str, language: str) -> list[str]:
    """Return the snippets of a language under a heading. Raises `ValueError` when there is no such heading."""
    text = _text()
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"no page has a part {heading!r}")
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return [found[2] for found in _SNIPPET.finditer(rest[: end.start()] if end else rest) if found[1] == language]


def snippet(heading: str, language: str) -> str:
    """Return the only one of them."""
    found = snippets(heading, language)
    assert len(found) == 1, f"{len(found)} {language} snippets under {heading!r}"
    return found[0]


def lines_of(snippet: str) -> int:
    """Count the lines that a person has to write, beside imports."""
    return sum(bool(line) and not line.startswith(("import ", "from ")) for line in snippet.splitlines())


def run(snippet: str, language: str, url: str, environment: Mapping[str, str], timeout_s: float = PROGRAM_S) -> str:
    """Run a snippet against the server at this address, and return what it prints. Fails when the snippet does."""
    shell = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    done = subprocess.run(
        [*shell, snippet.replace(SERVED_AT, url)],
        env={**kept, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

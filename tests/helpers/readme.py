"""The README's snippets, to be run as they stand there."""

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
_SNIPPET: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def in_order() -> list[tuple[str, str, str]]:
    """Return heading, language and text of every snippet, from top to bottom."""
    heading, found = "", []
    for match in re.finditer(
        rf"^#+ ([^\n]+)$|{_SNIPPET.pattern}", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        if match[1] and not match[2]:
            heading = match[1]
        elif match[2]:
            found.append((heading, match[2], match[3]))
    return found


def snippets(heading: str, language: str) -> list[str]:
    """The snippets of a language under a heading, in their order. Raises `ValueError` when there is no such part."""
    text = (ROOT / "README.md").read_text()
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"the README has no part {heading!r}")
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

"""Snippets out of the README, as people copy them: tests run what stands there and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """The text under the heading, down to the next of its level or above. Raises `AssertionError` without one."""
    text = README.read_text()
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found is not None, f"the README has no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def snippets(heading: str, language: str) -> list[str]:
    """The code blocks of this language under the heading."""
    return [code for named, code in _FENCE.findall(section(heading)) if named == language]


def snippet(heading: str, language: str) -> str:
    """The only one of them."""
    found = snippets(heading, language)
    assert len(found) == 1, f"{len(found)} {language} snippets under {heading!r}"
    return found[0]

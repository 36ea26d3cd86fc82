"""Threat model of SECURITY.md: each row names tests, and each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = (ROOT / "SECURITY.md").read_text().partition("## Threat model")[2]
TESTS = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in MODEL.splitlines()
    if line.startswith("| ") and not line.startswith("| Asset ")
]
NAMED = sorted({found for row in ROWS for found in TESTS.findall(row[-1])})


def test_each_row_says_what_from_whom_by_what_and_which_test_shows_it() -> None:
    assert len(ROWS) > 30
    wrong = [row for row in ROWS if len(row) != 4 or not all(row) or TESTS.sub("", row[-1]).strip(", ")]
    assert wrong == []
    assert [row[0] for row in ROWS if not TESTS.findall(row[-1])] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    path = ROOT / file
    assert path.exists() and re.search(rf"^ *(async )?def {name}\(", path.read_text(), re.MULTILINE)

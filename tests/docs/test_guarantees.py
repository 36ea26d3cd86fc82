"""Tests that docs/guarantees.md names: each is there, so that no promise is shown by nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:unit|api)/\w+\.py)::(\w+)`", TEXT)))


def test_files_that_are_named_exist() -> None:
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", TEXT))
    assert len(files) > 40
    assert [name for name in sorted(files) if not (TESTS.parent / name).exists()] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)


def test_each_row_of_what_is_charged_has_its_tests() -> None:
    part = TEXT.partition("## What is charged for what is not delivered")[2].partition("\n## ")[0]
    said, shown = (table.split("\n")[2:] for table in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE))
    assert len(said) == len(shown) > 10
    for row in shown[:-1]:
        assert row.count("::") >= 2

"""Files and folders that docs/architecture.md names: each is there, so that a newcomer finds the room."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Names in the text may be given from one of these on.
FOLDERS = ("", "actors", "actors/domain", "actors/adapters", "http", "scripts", "tests")
NAMED = re.compile(r"`([a-z][\w/]*(?:\.py|\.md|\.toml|/))`")


def test_what_the_map_names_is_there() -> None:
    named = set(NAMED.findall((ROOT / "docs/architecture.md").read_text()))
    assert len(named) > 60
    assert [name for name in sorted(named) if not any((ROOT / folder / name).exists() for folder in FOLDERS)] == []


def test_functions_that_the_map_names_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = [
        (function, file)
        for functions, file in re.findall(r"((?:`\w+`(?:, | and )?)+) (?:in|of) `([\w/]+\.py)`", text)
        for function in re.findall(r"\w+", functions.replace(" and ", " "))
    ]
    assert len(named) > 5
    assert [entry for entry in named if f"def {entry[0]}(" not in (ROOT / entry[1]).read_text()] == []


def test_a_newcomers_three_changes_touch_few_files() -> None:
    rows = re.findall(r"^\| (a Lightning backend|an upstream of another shape|a `tags` field on sessions) \| (.+) \|$",
                      (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)  # fmt: skip
    counts = [len(re.findall(r"`[\w/<>]+\.(?:py|toml)`", files)) for _, files in rows]
    assert [count <= most for count, most in zip(counts, (6, 6, 8), strict=True)] == [True] * 3


def test_names_that_the_map_and_the_decisions_use_are_in_the_code() -> None:
    code = "".join(path.read_text() for folder in FOLDERS[1:] for path in (ROOT / folder).rglob("*.py"))
    known = set(re.findall(r"\w+", code))
    documents = [ROOT / "docs/architecture.md", *(ROOT / "docs/decisions").glob("*.md")]
    used = {name for path in documents for name in re.findall(r"`([A-Z][a-z]+(?:[A-Z]\w*)?)`", path.read_text())}
    assert "TakeUp" in used
    assert used - known == set()

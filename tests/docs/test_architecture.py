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

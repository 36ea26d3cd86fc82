"""Counts of the cases of each test, which `scripts/fuzz` asks for."""

from __future__ import annotations

from collections import Counter
from typing import Final

COUNTS: Final = "FUZZ_COUNTS"
"""The environment variable that names the file for the counts."""

cases: Final[Counter[str]] = Counter()

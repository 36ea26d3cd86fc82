"""What the README tells people to copy, so that tests run exactly that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

README: Final = Path(__file__).parents[1] / "README.md"


def snippet(heading: str, language: str) -> str:
    """The first block of code in this language under a heading."""
    text = README.read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}\n(?P<body>.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section is not None, f"the README has no heading {heading!r}"
    found = re.search(rf"^```{language}\n(?P<code>.*?)^```$", section["body"], re.DOTALL | re.MULTILINE)
    assert found is not None, f"there is no {language} under {heading!r}"
    return found["code"]

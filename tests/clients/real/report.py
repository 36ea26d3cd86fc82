"""The table of docs/clients.md. A run replaces the rows of the clients that it ran, and keeps the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .battery import Row
from .catalogue import CASES, CLIENTS

PAGE: Final = Path(__file__).parents[3] / "docs" / "clients.md"
_BEGIN: Final = "<!-- clients:begin -->"
_END: Final = "<!-- clients:end -->"
_SHOWN_CHARS: Final = 160


def written(text: str, rows: Sequence[Row]) -> str:
    """Return the page's text with these rows in its table, in the catalogue's order."""
    head, _, rest = text.partition(_BEGIN)
    table, _, tail = rest.partition(_END)
    kept = {_key(line): line for line in table.splitlines() if line.startswith("| ") and "---" not in line}
    kept |= {_key(line): line for line in map(_line, rows)}
    order = [_key_of(client.title, way) for client in CLIENTS for way in client.ways]
    columns = " | ".join(["Client", "Used by", "Version", *CASES])
    lines = [f"| {columns} |", "|" + "---|" * (len(CASES) + 3), *(kept[key] for key in order if key in kept)]
    settings = [f"- **{client.title}**: {client.setting}" for client in CLIENTS if client.setting]
    return "\n".join([f"{head}{_BEGIN}", *lines, "", "## Settings", "", *settings, f"{_END}{tail}"])


def _line(row: Row) -> str:
    cells = [_cell(row.results.get(case, "no result")) if case in row.client.cases else "" for case in CASES]
    return f"| {' | '.join([row.client.title, f'`{row.way}`', row.client.version, *cells])} |"


def _cell(result: str) -> str:
    return re.sub(r"\s+", " ", result).replace("|", "\\|")[:_SHOWN_CHARS]


def _key_of(title: str, way: str) -> str:
    return f"| {title} | `{way}` |"


def _key(line: str) -> str:
    return "|".join(line.split("|")[:3]) + "|"

"""Settings table of the README, made from the settings themselves. Run this module to update the README."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from ..config.settings import Settings
from .marked_part import insert_part


def render() -> str:
    """Return the table in Markdown: variable, default, meaning; a line for each setting, in their order."""
    lines = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for field in Settings.model_fields.values():
        default = f"`{text}`" if (text := _text(field.default)) else ""
        lines.append(f"| `{field.validation_alias}` | {default} | {field.description} |")
    return "\n".join(lines)


def insert(document: str) -> str:
    """Return the document with the table between its marks. Raises `ValueError` when a mark is missing."""
    return insert_part(document, "settings", render())


def _text(default: Any) -> str:
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, dict):
        return msgspec.json.encode(default).decode()
    if isinstance(default, Decimal):
        return format(default, "f")
    return str(default.value if isinstance(default, Enum) else default)


def main() -> None:
    """Write the table into the README of the current directory."""
    readme = Path("README.md")
    readme.write_text(insert(readme.read_text()))


if __name__ == "__main__":
    main()

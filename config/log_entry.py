"""Log entries of what runs before logging is set up: in words on a terminal, else in the form of all others."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

_ENV: Final = "SATMETER_ENV"
_COLUMNS_MIN: Final = 40
_COLUMNS_UNKNOWN: Final = 80


def is_for_people(*, terminal: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a person reads along: at a terminal, and not in production."""
    given = next((value for name, value in environment.items() if name.upper() == _ENV), "")
    return terminal and given != "production"


def entry(level: str, event: str, process: str, hint: str, **fields: str) -> str:
    """Return an entry as a line of JSON. `hint` is for a person, and may hold no secret."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    told = {"timestamp": at, "level": level, "event": event, "process": process, "pid": os.getpid()}
    return json.dumps({**told, **fields, "hint": hint})


def say(out: TextIO, level: str, event: str, process: str, hint: str, **fields: str) -> None:
    """Write `hint` for a person, or the entry."""
    if is_for_people(terminal=out.isatty()):
        line = "\n".join(textwrap.wrap(hint, _columns(out), subsequent_indent="  ", break_on_hyphens=False))
    else:
        line = entry(level, event, process, hint, **fields)
    out.write(f"{line}\n")
    out.flush()


def _columns(out: TextIO) -> int:
    try:
        return max(_COLUMNS_MIN, os.get_terminal_size(out.fileno()).columns)
    except (OSError, ValueError):
        return _COLUMNS_UNKNOWN

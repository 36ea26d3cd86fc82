"""Rendering of log entries for a person: a line for each, in columns, wrapped at the terminal's width."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TextIO

from structlog.typing import EventDict, WrappedLogger

_WIDTH_UNKNOWN: Final = 80
_WIDTH_MIN: Final = 40
# On a wide terminal the fields of all entries begin in the same column.
_WIDE: Final = 110
_TIME: Final = 8
_LEVEL: Final = 8
_EVENT: Final = 26
_MARGIN: Final = _TIME + 1 + _LEVEL + 1
_RESET: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_DIM: Final = "\x1b[2m"
_KEY: Final = "\x1b[36m"
_LEVELS: Final[Mapping[str, str]] = {
    "debug": _DIM,
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[1;31m",
    "critical": "\x1b[1;31m",
}
# Shown in columns or lines of their own.
_APART: Final = frozenset({"timestamp", "level", "event", "pid", "hint", "exception"})
# What the event says already is left out, and which process it was comes after what was done.
_OWN: Final = "satmeter."
_LAST: Final = ("process", "logger")


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether to colour what goes to a stream: by NO_COLOR, then FORCE_COLOR, then what the stream is."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


def width_of(stream: TextIO, environment: Mapping[str, str] = os.environ) -> int:
    """Return the columns of a terminal, which may change while the program runs."""
    told = environment.get("COLUMNS", "")
    if told.isascii() and told.isdigit():
        return max(_WIDTH_MIN, int(told))
    try:
        return max(_WIDTH_MIN, os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return _WIDTH_UNKNOWN


class TerminalRenderer:
    """The last processor of entries that go to a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colour = wants_colour(stream)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> str:
        """Return the lines of an entry, joined."""
        level = str(event.get("level", ""))
        width = width_of(self._stream) - _MARGIN
        head = f"{self._styled(_time_of(event), _DIM)} {self._styled(f'{level:{_LEVEL}}', _LEVELS.get(level, ''))}"
        lines = self._message(event, width)
        for name in ("hint", "exception"):
            if event.get(name):
                lines += [self._styled(line, _DIM) for line in _wrapped(str(event[name]), width)]
        return f"\n{' ' * _MARGIN}".join([f"{head} {lines[0]}", *lines[1:]])

    def _message(self, event: EventDict, width: int) -> list[str]:
        """Return the event and its fields, as many of them in each line as fit."""
        name, *more = _wrapped(str(event.get("event", "")), width) or [""]
        column = _EVENT if width + _MARGIN >= _WIDE and not more else 0
        lines = [self._styled(name, _BOLD), *(self._styled(line, _BOLD) for line in more)]
        used = len(more[-1] if more else name)
        for key, text in _fields_of(event):
            if "\n" in text:
                lines += [self._field(key, ""), *_wrapped(text, width)]
                used = width
                continue
            gap = max(2, column - used) if len(lines) == 1 else 2
            token = f"{key}={text}"
            if used + gap + len(token) <= width:
                lines[-1] += " " * gap + self._field(key, text)
                used += gap + len(token)
                continue
            first, *rest = _wrapped(token, width)
            lines += [self._field(key, first[len(key) + 1 :]) if first.startswith(f"{key}=") else first, *rest]
            used = len((first, *rest)[-1])
        return lines

    def _field(self, key: str, text: str) -> str:
        return f"{self._styled(f'{key}=', _KEY)}{text}"

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{_RESET}" if self._colour and style and text else text


def _time_of(event: EventDict) -> str:
    """Return the time of day, as the clock beside the terminal shows it."""
    try:
        return datetime.fromisoformat(str(event["timestamp"])).astimezone().strftime("%H:%M:%S")
    except (KeyError, ValueError):
        return " " * _TIME


def _fields_of(event: EventDict) -> Iterable[tuple[str, str]]:
    names = [name for name in event if name not in _APART and name not in _LAST]
    last = [name for name in _LAST if name in event and not str(event[name]).startswith(_OWN)]
    for name in (*names, *last):
        yield name, _text(event[name])


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        texts = [_text(item) for item in value]
        # Sentences and places in the code have lines of their own.
        return "\n".join(f"  {text[1:-1]}" for text in texts) if any(" " in text for text in texts) else ",".join(texts)
    text = _visible(str(value))
    return f'"{text}"' if not text or any(char.isspace() for char in text) else text


def _visible(text: str) -> str:
    """Return the text without control characters, by which a stranger could write to the operator's terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text, each at most so wide. Lines keep their indentation, as tracebacks have it."""
    found: list[str] = []
    for line in text.splitlines():
        inner = line.lstrip(" ")
        indent = " " * min(len(line) - len(inner), width // 2)
        found += textwrap.wrap(
            _visible(inner), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        ) or [""]
    return found

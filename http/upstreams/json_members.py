"""Outermost members of a JSON body, with their places in it, so that single values can be changed to the byte."""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # there, but not in the stubs
from typing import Any, Final, NamedTuple, NoReturn

from ...actors.domain.errors import RefusedError
from ..response.errors import invalid

_BLANK: Final = frozenset(" \t\n\r")
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class Member(NamedTuple):
    """A value, and its place in the text: `text[start:end]`."""

    value: Any
    start: int
    end: int


def read_members(data: bytes) -> tuple[str, dict[str, Member]]:
    """Return a body's text and its outermost members. Raises `RefusedError` (400), also for a duplicate name."""
    if not data:
        raise invalid("", "The body is empty; send a JSON object")
    try:
        text = data.decode()
        return text, _members(text)
    except RefusedError:
        raise
    except (ValueError, IndexError, StopIteration, RecursionError):
        # The decoder's own error may quote the body.
        raise invalid("", "The body is not a JSON object") from None


def byte_offset(text: str, at: int) -> int:
    """Return the place in the bytes of a place in the text."""
    return len(text[:at].encode())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a duplicate name: the provider might read the other value than this server."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise invalid("", "A name appears twice in one JSON object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant)


def _members(text: str) -> dict[str, Member]:
    """Return the outermost members.

    Raises `ValueError`, `IndexError`, `StopIteration`, `RecursionError` or `RefusedError`.
    """
    found: dict[str, Member] = {}
    at = _after(text, _skip(text, 0), "{")
    while True:
        if text[at] == "}" and not found:
            break
        name, at = scanstring(text, _after(text, at, '"', blank=False), True)
        start = _after(text, _skip(text, at), ":")
        value, end = _DECODER.raw_decode(text, start)
        if name in found:
            raise invalid("", "A name appears twice in one JSON object")
        found[name] = Member(value, start, end)
        at = _skip(text, end)
        if text[at] == "}":
            break
        at = _after(text, at, ",")
    if _skip(text, at + 1) != len(text):
        raise ValueError
    return found


def _skip(text: str, at: int) -> int:
    if text[at : at + 1] not in _BLANK:
        return at
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _after(text: str, at: int, wanted: str, *, blank: bool = True) -> int:
    if text[at] != wanted:
        raise ValueError
    return _skip(text, at + 1) if blank else at + 1

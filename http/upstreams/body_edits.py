"""Changes of single members of a body, all other bytes of which stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ...actors.domain.llm.relays import RelayBody
from ..response.errors import invalid
from .json_members import Member


class _Change(NamedTuple):
    start: int
    end: int
    text: str


class BodyEdits:
    """A body with the changes to be made in it, by the outermost member. It has at least one member."""

    def __init__(self, text: str, members: Mapping[str, Member]) -> None:
        self._text = text
        self._members = members
        self._changes: dict[str, str] = {}

    def set(self, name: str, value: Any) -> None:
        """Give a member another value, or add it. Raises `RefusedError` (400) for half a character."""
        try:
            self._changes[name] = _json(value)
        except ValueError:
            raise invalid(name, "Must be text that can be encoded") from None

    def finished(self, field: str, max_tokens: int, choices: int = 1) -> RelayBody:
        """Return the body, in which `field` is the limit of each answer."""
        end = max(member.end for member in self._members.values())
        changes = [
            _Change(found.start, found.end, self._changes[name])
            for name, found in self._members.items()
            if name in self._changes
        ]
        changes += [
            _Change(end, end, f",{_json(name)}:{value}")
            for name, value in self._changes.items()
            if name not in self._members
        ]
        if (found := self._members.get(field)) is not None:
            number = _Change(found.start, found.end, str(max_tokens))
        else:
            changes.append(_Change(end, end, f",{_json(field)}:"))
            number = _Change(end, end, str(max_tokens))
        # A sort keeps the order of what is added at the end.
        before, after = self._spliced(sorted([*changes, number], key=lambda change: change.start), number)
        begun = before.encode()
        start, last = len(begun) - len(number.text), len(begun)
        return RelayBody(begun + after.encode(), max_tokens, start, last, choices)

    def _spliced(self, changes: list[_Change], number: _Change) -> tuple[str, str]:
        """Return the text up to the end of the number, and the rest."""
        made: list[str] = []
        before, at = "", 0
        for change in changes:
            made += [self._text[at : change.start], change.text]
            at = change.end
            if change is number:
                before, made = "".join(made), []
        return before, "".join([*made, self._text[at:]])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

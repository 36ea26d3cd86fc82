"""Input of a custom tool while it arrives: free text, which the model writes as one string in a JSON object."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from .tools import INPUT

_BEGIN: Final = re.compile(r'\s*\{\s*"' + INPUT + r'"\s*:\s*"')
# Characters of a JSON string up to its end or to an escape that is not complete yet.
_TEXT: Final = re.compile(
    r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*"
)


class _Whole(msgspec.Struct):
    input: str


class CustomInput:
    """The pieces of a custom tool's input."""

    def __init__(self) -> None:
        self.text = ""
        self._json = ""
        self._at: int | None = None

    def read(self, piece: str) -> str:
        """Return the text that this piece of JSON adds."""
        self._json += piece
        if self._at is None:
            begun = _BEGIN.match(self._json)
            if begun is None:
                return ""
            self._at = begun.end()
        found = _TEXT.match(self._json, self._at)
        assert found is not None
        self._at = found.end()
        return self._add(msgspec.json.decode(f'"{found[0]}"', type=str)) if found[0] else ""

    def end(self) -> str:
        """Return the text that is still missing at the end, such as all of it if it came in an unusual form."""
        try:
            whole = msgspec.json.decode(self._json, type=_Whole).input
        except (ValueError, RecursionError):
            return "" if self._at is not None else self._add(self._json)
        return self._add(whole.removeprefix(self.text)) if whole.startswith(self.text) else ""

    def _add(self, text: str) -> str:
        self.text += text
        return text

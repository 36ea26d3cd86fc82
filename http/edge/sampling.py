"""Sampling of log lines that strangers cause."""

from __future__ import annotations

from typing import Final

from .buckets import Buckets

_LINES_S: Final = 1.0
_LINES_AT_ONCE: Final = 20.0
LEFT_OUT: Final = "left_out"
"""The field with the number of like lines that were left out before this one."""


class Sample:
    """Bound of the lines of one kind: twenty at once, and then one a second. The others are counted."""

    def __init__(self) -> None:
        self._lines = Buckets(_LINES_S, _LINES_AT_ONCE)
        self._left_out = 0

    def fields(self, now_s: float) -> dict[str, int] | None:
        """Return further fields of a line; None if it is left out."""
        if self._lines.wait_s("", now_s):
            self._left_out += 1
            return None
        self._lines.charge("", now_s, 1.0)
        left_out, self._left_out = self._left_out, 0
        return {LEFT_OUT: left_out} if left_out else {}

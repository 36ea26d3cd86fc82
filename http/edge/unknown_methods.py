"""Methods that the parser does not know: they are methods all the same, and each path says what it takes instead."""

from __future__ import annotations

import re
from typing import Final

# Methods have no small letters here. Something else than HTTP is not taken for one.
_METHOD: Final = re.compile(rb"(?:\r?\n)*([A-Z][A-Z0-9_-]{0,31})(?= [/*])")
# A method that the parser knows, and no path takes.
_STAND_IN: Final = b"PROPFIND"


def readable(data: bytes) -> bytes | None:
    """Return a request with another method in the place of one that can't be parsed; None for what is not a request."""
    found = _METHOD.match(data)
    if found is None or found[1] == _STAND_IN:
        return None
    return _STAND_IN + data[found.end() :]

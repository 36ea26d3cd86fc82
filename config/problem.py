"""Problem of a configuration, as all checks report it."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """A problem: the variable at fault, and a sentence that says what to do about it. It holds no secret."""

    variable: str
    message: str

"""A fault of the configuration, as every check of it reports one."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """Something wrong: the variable at fault, and a sentence that says what to do about it. Holds no secret."""

    variable: str
    message: str

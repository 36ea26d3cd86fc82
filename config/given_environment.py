"""Environment as the operator gave it: that of this process, and the secrets that its launcher took out of it.

Programs that this process starts inherit its own, without these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

_taken_out: Final[dict[str, str]] = {}


def give_back(secrets: Mapping[str, str]) -> None:
    """Add variables that the launcher took out."""
    _taken_out.update(secrets)


def given_environment() -> Mapping[str, str]:
    """Return the variables as the operator set them."""
    return {**os.environ, **_taken_out}

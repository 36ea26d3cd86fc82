"""What an effect says before its end to those who wait for it, and how it learns that nobody waits any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .domain.behaviour import Reply


@dataclass(slots=True, eq=False)
class Outlet:
    """One for each effect that runs.

    emit: gives something to all who wait, and to those who join them later. stopped: nobody waits any more; an effect
    that has `begun`, and can still say what it used, is then cancelled once.
    """

    emit: Callable[[Reply], None]
    begun: bool = False
    stopped: bool = False

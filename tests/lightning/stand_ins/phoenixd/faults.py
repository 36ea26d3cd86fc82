"""Faults of the stand-in that a test switches on, and what it counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from tests.lightning.stand_ins.phoenixd.books import Outgoing
from tests.lightning.world import Fate


@dataclass
class Faults:
    """Faults, all off. `fates`: what becomes of the next payments. `slow_s`: all answers come so much later."""

    fates: list[Fate] = field(default_factory=list)
    slow_s: float = 0
    late_s: float = 1.5
    """Length of a payment that is slow; longer than the time-out of the client under test."""
    is_rubbish: bool = False
    is_muted: bool = False
    is_unconnected: bool = False
    """The node has not heard its peer's prices yet."""
    version: str = "0.8.0-de6f8ae"
    orders: Counter[str] = field(default_factory=Counter)
    under_way: dict[str, UnderWay] = field(default_factory=dict)

    def next_fate(self) -> Fate:
        """Return what becomes of the payment that is ordered now."""
        return self.fates.pop(0) if self.fates else Fate.PAID


@dataclass
class UnderWay:
    """A payment that stays pending until a test ends it."""

    payment: Outgoing
    ended: asyncio.Event = field(default_factory=asyncio.Event)

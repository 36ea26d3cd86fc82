"""Counts of what clients hold at once, bounded for each address or /64, for each /48, and in all."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from .networks import Origin

# A /48 holds as much as this number of addresses.
WIDE: Final = 4


class Full(Enum):
    """Share that has no more to give: the client's own, or that of all."""

    OWN = "own"
    ALL = "all"


class Caps(NamedTuple):
    """The most that one address or /64, one /48, and all clients together hold."""

    near: int
    wide: int
    all: int

    @classmethod
    def of(cls, near: int, most: int) -> Caps:
        """Return caps of which none exceeds the whole."""
        return cls(min(near, most), min(WIDE * near, most), most)


class Shares:
    """Count of one kind of thing that clients hold: connections, requests under way, event streams, bytes."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._held: dict[str, int] = {}
        self.total = 0

    def take(self, origin: Origin, amount: int = 1) -> Full | None:
        """Count what a client takes; return what is full instead, if it may not have that."""
        held, caps = self._held, self._caps
        near, wide = held.get(origin.near, 0) + amount, held.get(origin.wide, 0) + amount
        if (origin.near and near > caps.near) or (origin.wide and wide > caps.wide):
            return Full.OWN
        if self.total + amount > caps.all:
            return Full.ALL
        if origin.near:
            held[origin.near] = near
        if origin.wide:
            held[origin.wide] = wide
        self.total += amount
        return None

    def give_back(self, origin: Origin, amount: int = 1) -> None:
        """Count no more what a client took."""
        self.total -= amount
        for key in origin:
            if not key:
                continue
            left = self._held[key] - amount
            if left:
                self._held[key] = left
            else:
                del self._held[key]

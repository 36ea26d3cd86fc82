"""Counts of what clients hold at once, bounded for each address or /64, for each /48, and in all."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from .networks import Origin

# A /48 holds as much as this number of addresses.
WIDE: Final = 4
ALL: Final = ""
"""The key of the share of all. No origin has it."""


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
        key = self.full(origin, amount)
        if key is not None:
            return Full.ALL if key == ALL else Full.OWN
        held = self._held
        for key in origin:
            if key:
                held[key] = held.get(key, 0) + amount
        self.total += amount
        return None

    def full(self, origin: Origin, amount: int = 1) -> str | None:
        """Return the key of the narrowest share that has no room for so much more: the origin's, or `ALL`."""
        held, caps = self._held, self._caps
        if origin.near and held.get(origin.near, 0) + amount > caps.near:
            return origin.near
        if origin.wide and held.get(origin.wide, 0) + amount > caps.wide:
            return origin.wide
        return ALL if self.total + amount > caps.all else None

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

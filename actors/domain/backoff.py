"""Exponential backoff: pauses between tries that double, up to a longest one."""

from __future__ import annotations

from typing import Final, TypeVar

# Far more than any backoff needs, and little enough that the number stays small however often something is tried.
_DOUBLINGS_MAX: Final = 30
NumberT = TypeVar("NumberT", int, float)


def pause_after(tries: int, first: NumberT, longest: NumberT) -> NumberT:
    """Return the pause after so many earlier tries, 0 for the first pause, in the unit of `first` and `longest`."""
    return min(first * (1 << min(tries, _DOUBLINGS_MAX)), longest)


class Backoff:
    """Pauses of a loop that tries until it succeeds, in seconds."""

    __slots__ = ("_first_s", "_longest_s", "_tries")

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._tries = 0

    def next(self) -> float:
        """Return the next pause."""
        pause_s = pause_after(self._tries, self._first_s, self._longest_s)
        self._tries += 1
        return pause_s

    def reset(self) -> None:
        """Begin with the first pause again, after a success."""
        self._tries = 0

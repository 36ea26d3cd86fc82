"""Counts of answers of the last hour: how many, how many failed, and how long they took to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

_BOUNDS_MS: Final = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)
_LONGER: Final = "longer"
ALL: Final = "all"
FAILED: Final = "failed"
REFUSED: Final = "refused"
# Asked by programs again and again, or for the page itself: they would hide how clients fare.
_LEFT_OUT: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_OPERATORS: Final = "/operator"


def counted_as(route: str, status: int, seconds: float) -> Sequence[str]:
    """Return the names under which an answer counts; none for one that is the operator's own."""
    if route in _LEFT_OUT or route.startswith(_OPERATORS):
        return ()
    milliseconds = seconds * 1_000
    bound = next((str(bound) for bound in _BOUNDS_MS if milliseconds <= bound), _LONGER)
    kind = (FAILED,) if status >= 500 else (REFUSED,) if status >= 400 else ()
    return (ALL, f"within:{bound}", *kind)


class Answers(NamedTuple):
    """Answers of the last hour. `failed`: with a 5xx; `refused`: with a 4xx."""

    all: int
    failed: int
    refused: int
    within: Mapping[int, int]

    def percentile(self, percent: int) -> int | None:
        """Return the bound in ms that so many of a hundred answers kept; None without answers, or above all bounds."""
        due, found = -(-self.all * percent // 100), 0
        for bound in _BOUNDS_MS:
            found += self.within.get(bound, 0)
            if self.all and found >= due:
                return bound
        return None


def answers_of(counts: Mapping[str, int]) -> Answers:
    """Return the answers that these counts stand for."""
    within = {bound: counts.get(f"within:{bound}", 0) for bound in _BOUNDS_MS}
    return Answers(counts.get(ALL, 0), counts.get(FAILED, 0), counts.get(REFUSED, 0), within)


LONGEST_S: Final = _BOUNDS_MS[-1] // 1_000

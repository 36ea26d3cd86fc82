"""Shrinking of the history of a broken promise: fewer steps and fewer kinds of faults that still break one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .plan import Step
from .run import Outcome, run
from .world import Fault

_RUNS_MAX: Final = 150


@dataclass(slots=True)
class Shrinking:
    """Shortest history so far that still breaks a promise. `until_s`: end of the search, by the monotonic clock."""

    seed: int
    steps: Sequence[Step]
    faults: frozenset[Fault]
    outcome: Outcome
    until_s: float
    runs: int = 0

    def shrink(self) -> None:
        """Leave out what is not needed: kinds of faults first, then steps, in ever smaller parts."""
        for fault in sorted(self.faults):
            self._without(self.steps, self.faults - {fault})
        size = max(1, len(self.steps) // 2)
        while True:
            at = 0
            while at < len(self.steps):
                left = [*self.steps[:at], *self.steps[at + size :]]
                if not self._without(left, self.faults):
                    at += size
            if size == 1:
                return
            size //= 2

    def _without(self, steps: Sequence[Step], faults: frozenset[Fault]) -> bool:
        if self.runs >= _RUNS_MAX or time.monotonic() > self.until_s:
            return False
        self.runs += 1
        outcome = run(self.seed, steps, faults)
        if outcome.violation is None:
            return False
        self.steps, self.faults, self.outcome = steps, faults, outcome
        return True


def shrunk(
    seed: int, steps: Sequence[Step], faults: frozenset[Fault], outcome: Outcome, patience_s: float
) -> Shrinking:
    """Return the shortest history that was found within this time."""
    found = Shrinking(seed, steps, faults, outcome, time.monotonic() + patience_s)
    found.shrink()
    return found

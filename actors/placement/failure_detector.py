"""Failure detector that decides when the oracle and the treasury are replaced. Pure.

An actor that Ray is only starting again must not be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

_MISSES_MAX: Final = 2
# An actor that was just started has to find its store and its node before it answers.
_STARTS_WITHIN: Final = 8
# Ray has this time to start it.
_COMES_WITHIN_S: Final = 60.0


class Liveness(Enum):
    """State in which such an actor was found.

    SERVES: it answers, from where it should be. ELSEWHERE: it answers, from another node. COMING: it does not answer,
    and Ray says that it is starting it, or starting it again. SILENT: it does not answer. ABSENT: it does not exist.
    """

    SERVES = "serves"
    ELSEWHERE = "elsewhere"
    COMING = "coming"
    SILENT = "silent"
    ABSENT = "absent"


class FailureDetector:
    """Memory of one such actor from one look to the next.

    Ray notices at once that a process died, and starts it again within seconds; to start another one instead would take
    as long from the beginning. Ray never notices that a process hangs, and notices a dead node only after a quarter of
    a minute: an actor that is silent twice in a row is replaced.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._misses = 0
        self._coming_since_s: float | None = None

    def replaces(self, liveness: Liveness) -> bool:
        """Return whether another actor is to be started in its place now."""
        if liveness is Liveness.COMING:
            self._misses = -_STARTS_WITHIN
            if self._coming_since_s is None:
                self._coming_since_s = self._clock()
            return self._clock() - self._coming_since_s >= _COMES_WITHIN_S
        self._coming_since_s = None
        if liveness is Liveness.SILENT:
            self._misses += 1
            return self._misses >= _MISSES_MAX
        self._misses = 0
        return liveness is not Liveness.SERVES

    def begun(self) -> None:
        """Take note that another one has been started."""
        self._misses = -_STARTS_WITHIN
        self._coming_since_s = None

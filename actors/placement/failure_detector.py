"""Failure detector of processes, and the replacement of the oracle and the treasury. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

# One missed answer may be a busy moment; two are a second without a host.
_MISSES_MAX: Final = 2
# An actor that was just started has to find its store and its node before it answers.
_STARTS_WITHIN: Final = 8
# Ray has this time to start it.
_COMES_WITHIN_S: Final = 60.0


class FailureDetector:
    """Failure detector of one process: it takes the process for silent after two missed answers in a row."""

    __slots__ = ("_misses",)

    def __init__(self) -> None:
        self._misses = 0

    def answered(self) -> None:
        """Forget the answers that were missed before."""
        self._misses = 0

    def missed(self) -> bool:
        """Count a missed answer; return whether the process is silent since this one."""
        self._misses += 1
        return self._misses == _MISSES_MAX

    def spare(self, answers: int) -> None:
        """Let so many answers be missed without counting them: the process was just started."""
        self._misses = -answers

    @property
    def misses_answers(self) -> bool:
        """Return whether the last answer was missed."""
        return self._misses > 0

    @property
    def suspected(self) -> bool:
        """Return whether the last answer alone was missed, so that it should be asked again soon."""
        return 0 < self._misses < _MISSES_MAX

    @property
    def silent(self) -> bool:
        """Return whether the process hangs, or is gone."""
        return self._misses >= _MISSES_MAX


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


class Replacement:
    """Decision when the oracle, or the treasury, is replaced, from one look at it to the next.

    Ray notices at once that a process died, and starts it again within seconds; to start another one instead would take
    as long from the beginning. Ray never notices that a process hangs, and notices a dead node only after a quarter of
    a minute: an actor that is silent twice in a row is replaced.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._detector = FailureDetector()
        self._coming_since_s: float | None = None

    def replaces(self, liveness: Liveness) -> bool:
        """Return whether another actor is to be started in its place now."""
        if liveness is Liveness.COMING:
            self._detector.spare(_STARTS_WITHIN)
            if self._coming_since_s is None:
                self._coming_since_s = self._clock()
            return self._clock() - self._coming_since_s >= _COMES_WITHIN_S
        self._coming_since_s = None
        if liveness is Liveness.SILENT:
            self._detector.missed()
            return self._detector.silent
        self._detector.answered()
        return liveness is not Liveness.SERVES

    def begun(self) -> None:
        """Take note that another one has been started."""
        self._detector.spare(_STARTS_WITHIN)
        self._coming_since_s = None

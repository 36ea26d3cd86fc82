"""Open loop: requests are due at fixed times, whether or not earlier ones were answered.

A client that waits for one answer before it asks again measures nothing while the server stands still. So it leaves out
just what a load test is for. Here each latency counts from when the request was due.
"""

from __future__ import annotations

import math
from typing import Final

# A timer of the event loop is a millisecond late by nature, and later in a busy loop.
LATE_S: Final = 0.05
# A request that is due in the last moment may start a little after the end.
_GRACE_S: Final = 0.25


class OpenLoop:
    """Schedule of requests, which also counts those that could not be started in time. It reads no clock."""

    def __init__(self, rate_per_s: float, duration_s: float, in_flight_max: int) -> None:
        self._rate_per_s = rate_per_s
        self._duration_s = duration_s
        self._in_flight_max = in_flight_max
        # The product is taken a hair smaller, as one like 0.1 x 30 may lie above the whole number that is meant.
        self.total = max(math.ceil(rate_per_s * duration_s - 1e-9), 1)
        self.started = 0
        self.in_flight = 0
        self.late_in_flight = 0
        self.late_generator = 0
        self.lag_max_s = 0.0
        self._blocked_until = 0

    def take(self, now_s: float) -> list[float]:
        """Return the times at which the requests were due that are to be started now, and count these as in flight."""
        due = self._due_count(now_s)
        count = min(due - self.started, self._in_flight_max - self.in_flight)
        taken = [self._due_s(number) for number in range(self.started, self.started + count)]
        for number, due_s in enumerate(taken, self.started):
            self._note_lag(number, now_s - due_s)
        self.started += count
        self.in_flight += count
        if self.started < due:
            self._blocked_until = due
        return taken

    def finish(self) -> None:
        """Count one less in flight."""
        self.in_flight -= 1

    @property
    def blocked(self) -> bool:
        """Limit in flight reached: a request has to end before another can start."""
        return self.in_flight >= self._in_flight_max

    def over(self, now_s: float) -> bool:
        """Return whether nothing more is to be started."""
        return self.started >= self.total or now_s >= self._duration_s + _GRACE_S

    def pause_s(self, now_s: float) -> float:
        """Return how long to wait for the next request, or for the end while blocked."""
        until_s = self._duration_s + _GRACE_S if self.blocked else self._due_s(self.started)
        return max(until_s - now_s, 0.0)

    def not_sent(self, ended_s: float) -> int:
        """Return how many requests were due by the end, and were never started."""
        return max(self._due_count(min(ended_s, self._duration_s)) - self.started, 0)

    def _due_count(self, now_s: float) -> int:
        return min(self.total, math.floor(now_s * self._rate_per_s + 1e-9) + 1)

    def _due_s(self, number: int) -> float:
        return number / self._rate_per_s

    def _note_lag(self, number: int, lag_s: float) -> None:
        self.lag_max_s = max(self.lag_max_s, lag_s)
        if lag_s > LATE_S:
            if number < self._blocked_until:
                self.late_in_flight += 1
            else:
                self.late_generator += 1

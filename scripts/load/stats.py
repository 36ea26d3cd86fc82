"""Latencies of a load test in constant memory, however long it runs."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

# Neighbouring buckets are 1 % apart: a percentile is off by at most half of that.
_GROWTH_LOG: Final = math.log(1.01)
_LEAST_S: Final = 1e-6
_SLOTS_MAX: Final = 300
_WINDOW_S: Final = 5


class Histogram:
    """Histogram of durations, in buckets of 1 %."""

    __slots__ = ("_buckets", "count", "max_s")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.max_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one more."""
        self._buckets[round(math.log(max(duration_s, _LEAST_S)) / _GROWTH_LOG)] += 1
        self.count += 1
        self.max_s = max(self.max_s, duration_s)

    def merge(self, other: Histogram) -> None:
        """Count all of the other one."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)

    def percentile_s(self, percent: float) -> float | None:
        """Return the percentile of the durations, to half a percent; None when nothing was counted."""
        wanted = max(math.ceil(self.count * percent / 100), 1)
        if self.count and wanted >= self.count:
            return self.max_s
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(math.exp(bucket * _GROWTH_LOG), self.max_s)
        return None


@dataclass(slots=True)
class Slot:
    """A stretch of the test: answers and failures by when they came, latencies by when requests were due."""

    answered: int = 0
    failed: int = 0
    latency: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)


class Recorder:
    """Outcomes of the requests. All times are seconds since the load began."""

    def __init__(self, duration_s: float) -> None:
        self.slot_s = max(1, math.ceil(duration_s / _SLOTS_MAX))
        self.slots: list[Slot] = []
        self.latency = Histogram()
        self.first_token = Histogram()
        self.errors: Counter[tuple[int, str]] = Counter()
        self.examples: dict[tuple[int, str], str] = {}
        self.answered = 0
        self.failed = 0
        self.retried_unavailable = 0
        self.mended_unavailable = 0
        self.retried_lost = 0
        self.mended_lost = 0
        self._window: deque[tuple[int, Slot]] = deque()

    def answer(self, due_s: float, ended_s: float, first_token_s: float | None) -> None:
        """Count an answered request; its latency counts from when it was due."""
        due, now = self._slot(due_s), self._recent(ended_s)
        self.answered += 1
        self._slot(ended_s).answered += 1
        now.answered += 1
        for histogram in (self.latency, due.latency, now.latency):
            histogram.add(ended_s - due_s)
        if first_token_s is not None:
            for histogram in (self.first_token, due.first_token):
                histogram.add(first_token_s - due_s)

    def failure(self, ended_s: float, status: int, code: str, text: str) -> None:
        """Count a failed request that no retry mended. Of each kind the first text is kept."""
        self.failed += 1
        self.errors[status, code] += 1
        self.examples.setdefault((status, code), text)
        self._slot(ended_s).failed += 1
        self._recent(ended_s).failed += 1

    def retries(self, unavailable: int, lost: int, *, mended: bool) -> None:
        """Count a request that was sent again, with its numbers of 503s and of lost answers."""
        self.retried_unavailable += unavailable
        self.retried_lost += lost
        self.mended_unavailable += bool(unavailable) and mended
        self.mended_lost += bool(lost) and mended

    def window(self, now_s: float) -> tuple[Slot, float]:
        """Return the last seconds in one, and how many they are."""
        self._recent(now_s)
        whole = Slot()
        for _, second in self._window:
            whole.answered += second.answered
            whole.failed += second.failed
            whole.latency.merge(second.latency)
        return whole, max(min(now_s, now_s - int(now_s) + _WINDOW_S - 1), 0.1)

    def _slot(self, at_s: float) -> Slot:
        index = int(at_s / self.slot_s)
        while len(self.slots) <= index:
            self.slots.append(Slot())
        return self.slots[index]

    def _recent(self, at_s: float) -> Slot:
        second = int(at_s)
        if not self._window or self._window[-1][0] < second:
            self._window.append((second, Slot()))
        while self._window[0][0] <= second - _WINDOW_S:
            self._window.popleft()
        return self._window[-1][1]

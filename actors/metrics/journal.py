"""Metrics of the journal: how long its writes take, and how many share one."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from ..port_errors import ConflictError, FencedError, PortError

_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2)
_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_ERRORS: Final = {FencedError: "fenced", ConflictError: "conflict"}
_UNCONFIRMED: Final = "unconfirmed"


class JournalMetrics:
    """Counts and times of a host's writes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "satmeter_journal_write_seconds",
            "Time until the store has confirmed a batch of appends.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._batch = Histogram(
            "satmeter_journal_batch_appends",
            "Appends that were written together.",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        failures = Counter("satmeter_journal_failures", "Appends that failed.", ["error"], registry=registry)
        self._failures = {error: failures.labels(error) for error in (*_ERRORS.values(), _UNCONFIRMED)}

    def wrote(self, appends: int, seconds: float) -> None:
        """Count a batch that the store has answered."""
        self._seconds.observe(seconds)
        self._batch.observe(appends)

    def failed(self, error: Exception) -> None:
        """Count an append that was refused, or not confirmed."""
        assert isinstance(error, PortError)
        self._failures[_ERRORS.get(type(error), _UNCONFIRMED)].inc()

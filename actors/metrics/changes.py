"""Changes of a process's metrics since the last time that they were handed over, as they travel to the sum."""

from __future__ import annotations

from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Metric

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""Name of a sample with its labels."""

ADDED: Final = frozenset({"counter", "histogram", "summary"})
"""Types whose values only grow: the growth of all processes is added up. Of a gauge the last value counts."""
# The time at which a process began to count says nothing about a sum.
_LEFT_OUT: Final = "_created"


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One sample. `value`: the growth since the last time, or a gauge's value."""

    name: str
    labels: Labels
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """Samples of one metric, in the order of its exposition."""

    name: str
    type: str
    help: str
    samples: list[Sample]


class Changes:
    """Differences between a registry and what was handed over. A new series counts as changed, even at zero."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._handed: dict[Key, float] = {}
        self._taken: dict[Key, float] = {}

    def take(self) -> list[Family]:
        """Return the changes. They come again until `handed_over` is called."""
        self._taken = {}
        found = [Family(each.name, each.type, each.documentation, self._of(each)) for each in self._registry.collect()]
        return [family for family in found if family.samples]

    def handed_over(self) -> None:
        """Take note that the changes taken last have reached the sum."""
        self._handed.update(self._taken)
        self._taken = {}

    def _of(self, metric: Metric) -> list[Sample]:
        samples = []
        for sample in metric.samples:
            key = sample.name, tuple(sample.labels.items())
            before = self._handed.get(key)
            if before == sample.value or sample.name.endswith(_LEFT_OUT):
                continue
            self._taken[key] = sample.value
            grown = sample.value - (before or 0) if metric.type in ADDED else sample.value
            samples.append(Sample(*key, grown))
        return samples

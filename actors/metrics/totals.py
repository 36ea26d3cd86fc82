"""Totals of a server's metrics over all its processes, also over those that have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final

import msgspec

from .changes import ADDED, Family, Key, Sample

# Libraries' metrics of a process. Its kind is a label, as a sum over fronts and hosts would say little.
LIBRARY_PREFIX: Final = "process_"
PROCESSES: Final = "satmeter_processes"
# Gauges are added up, but for these.
_SMALLEST: Final = frozenset({"process_max_fds", "process_start_time_seconds"})


class _Metric(msgspec.Struct):
    name: str
    type: str
    help: str
    counted: dict[Key, float] = {}
    gauges: dict[Hashable, dict[Key, float]] = {}


class Totals:
    """Sums over processes, each of which hands over its changes.

    A counter never falls when a process ends, since Prometheus would take that for a reset and count the rest again.
    Gauges end with their process.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}
        self._roles: dict[Hashable, str] = {}
        self._known_roles: dict[str, None] = {}

    def enter(self, process: Hashable, role: str) -> None:
        """Take note of a process, of a kind that becomes a label."""
        self._roles[process] = role
        self._known_roles[role] = None

    def take(self, process: Hashable, families: Sequence[Family]) -> None:
        """Add the changes of a process that has entered."""
        role = self._roles[process]
        for family in families:
            metric = self._metrics.get(family.name)
            if metric is None:
                metric = self._metrics[family.name] = _Metric(family.name, family.type, family.help)
            into = metric.counted if family.type in ADDED else metric.gauges.setdefault(process, {})
            for sample in family.samples:
                labels = sample.labels
                if family.name.startswith(LIBRARY_PREFIX):
                    labels = (*labels, ("role", role))
                key = sample.name, labels
                into[key] = into.get(key, 0) + sample.value if family.type in ADDED else sample.value

    def leave(self, process: Hashable) -> None:
        """Forget the gauges of a process that has ended."""
        self._roles.pop(process, None)
        for metric in self._metrics.values():
            metric.gauges.pop(process, None)

    def families(self) -> list[Family]:
        """Return the totals until now."""
        found = [Family(each.name, each.type, each.help, list(_samples(each))) for each in self._metrics.values()]
        now = Counter(self._roles.values())
        roles = [Sample(PROCESSES, (("role", role),), now[role]) for role in self._known_roles]
        found.append(Family(PROCESSES, "gauge", "Processes of this server that hand over metrics.", roles))
        return [family for family in found if family.samples]


def _samples(metric: _Metric) -> Iterable[Sample]:
    if metric.type in ADDED:
        return (Sample(*key, value) for key, value in metric.counted.items())
    values: dict[Key, list[float]] = {}
    for gauges in metric.gauges.values():
        for key, value in gauges.items():
            values.setdefault(key, []).append(value)
    rule: Callable[[list[float]], float] = min if metric.name in _SMALLEST else sum
    return (Sample(*key, rule(each)) for key, each in values.items())

"""Metrics of a host process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..domain.behaviour import Command, Event
from ..domain.llm.catalogue import Catalogue
from ..domain.pricing import ModelPrice
from .effects import EffectMetrics
from .events import EventMetrics
from .journal import JournalMetrics
from .process import process_registry

_log = structlog.get_logger(__name__)


class Load(NamedTuple):
    """Load of a host at this moment.

    actors: those in memory, by the prefixes of their ids. waiting: commands in their mailboxes. holds, held_msat:
    requests of sessions under way, and what is set aside for them.
    """

    actors: Mapping[str, int]
    waiting: int
    holds: int
    held_msat: int


class HostMetrics:
    """All that a host counts, in the registry of its process."""

    def __init__(self, catalogue: Catalogue, prices: Mapping[str, ModelPrice], evaluator: str) -> None:
        self.registry = process_registry()
        self.events = EventMetrics(self.registry, prices, evaluator)
        self.effects = EffectMetrics(self.registry, prices, [upstream.name for upstream in catalogue.upstreams])
        self.journal = JournalMetrics(self.registry)

    def wrote(self, before: Any, events: Sequence[Event], sums: Mapping[str, int]) -> None:
        """Count written events, see `EventMetrics.wrote`. Raises nothing: what was written must take effect."""
        try:
            self.events.wrote(before, events, sums)
        except Exception as error:
            _note(error)

    def ended(self, outcome: Command, seconds: float, first_token_s: float | None) -> None:
        """Count an outcome, see `EffectMetrics.ended`. Raises nothing: what was paid for must reach its actor."""
        try:
            self.effects.ended(outcome, seconds, first_token_s)
        except Exception as error:
            _note(error)

    def watch(self, load: Callable[[], Load]) -> None:
        """Show the load of the process's host as well."""
        self.registry.register(_LoadCollector(load))


def _note(error: Exception) -> None:
    _log.error("metrics_not_counted", error_type=type(error).__name__)


class _LoadCollector(Collector):
    """Collector that looks when it is asked: counting each change would cost every command."""

    def __init__(self, load: Callable[[], Load]) -> None:
        self._load = load

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without looking: a registry asks for their names."""
        return _gauges(Load({}, 0, 0, 0))

    def collect(self) -> Iterable[Metric]:
        """Look at the load."""
        return _gauges(self._load())


def _gauges(load: Load) -> list[Metric]:
    actors = GaugeMetricFamily("satmeter_actors", "Actors in memory.", labels=["kind"])
    for kind, count in load.actors.items():
        actors.add_metric([kind], count)
    return [
        actors,
        GaugeMetricFamily("satmeter_commands_waiting", "Commands that wait in mailboxes.", load.waiting),
        GaugeMetricFamily("satmeter_holds_open", "Requests of sessions under way.", load.holds),
        GaugeMetricFamily("satmeter_held_msat", "Millisatoshis that are set aside for requests.", load.held_msat),
    ]

"""Totals over processes that come, count, and die."""

from __future__ import annotations

from satmeter.actors.metrics.changes import Family, Sample
from satmeter.actors.metrics.totals import Totals


def counted(value: float) -> Family:
    return Family("calls", "counter", "Calls.", [Sample("calls_total", (), value)])


def gauge(value: float, name: str = "waiting") -> Family:
    return Family(name, "gauge", "Now.", [Sample(name, (), value)])


def values(totals: Totals) -> dict[tuple[str, ...], float]:
    """Return all samples by their names and their labels' values."""
    samples = (sample for family in totals.families() for sample in family.samples)
    return {(sample.name, *(value for _, value in sample.labels)): sample.value for sample in samples}


def test_counters_of_all_processes_are_added_up_and_outlive_them() -> None:
    totals = Totals()
    for process in ("a", "b"):
        totals.enter(process, "host")
        totals.take(process, [counted(2)])
    totals.take("a", [counted(5)])
    totals.leave("a")
    assert values(totals)["calls_total",] == 9
    # Its successor begins at zero.
    totals.enter("a2", "host")
    totals.take("a2", [counted(1)])
    assert values(totals)["calls_total",] == 10


def test_gauges_end_with_their_process() -> None:
    totals = Totals()
    for process, value in (("a", 3), ("b", 4)):
        totals.enter(process, "host")
        totals.take(process, [gauge(value)])
    assert values(totals)["waiting",] == 7
    totals.take("b", [gauge(1)])
    totals.leave("a")
    assert values(totals)["waiting",] == 1
    totals.leave("b")
    assert ("waiting",) not in values(totals)


def test_metrics_of_processes_are_told_apart_by_kind_and_the_processes_counted() -> None:
    totals = Totals()
    for process, role, began_s in (("a", "host", 20), ("b", "host", 10), ("c", "front", 30)):
        totals.enter(process, role)
        totals.take(process, [gauge(5, "process_open_fds"), gauge(began_s, "process_start_time_seconds")])
    totals.leave("c")
    found = values(totals)
    assert found["process_open_fds", "host"] == 10 and ("process_open_fds", "front") not in found
    assert found["process_start_time_seconds", "host"] == 10
    assert (found["satmeter_processes", "host"], found["satmeter_processes", "front"]) == (2, 0)

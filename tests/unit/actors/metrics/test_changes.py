"""Changes of a process's metrics, as they go to the totals."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from satmeter.actors.metrics.changes import Changes, Family, Sample


def taken(changes: Changes) -> list[Family]:
    found = changes.take()
    changes.handed_over()
    return found


def test_only_the_growth_since_the_last_time_is_handed_over() -> None:
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls.", ["kind"], registry=registry)
    counter.labels("a").inc(3)
    changes = Changes(registry)
    assert taken(changes) == [Family("calls", "counter", "Calls.", [Sample("calls_total", (("kind", "a"),), 3)])]
    assert taken(changes) == []
    counter.labels("a").inc(2)
    assert taken(changes)[0].samples == [Sample("calls_total", (("kind", "a"),), 2)]


def test_a_new_series_is_handed_over_at_zero_for_its_growth_to_be_seen() -> None:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", registry=registry)
    changes = Changes(registry)
    assert taken(changes)[0].samples == [Sample("calls_total", (), 0)]
    assert taken(changes) == []


def test_what_did_not_arrive_comes_again_with_what_came_since() -> None:
    registry = CollectorRegistry()
    counter = Counter("calls", "Calls.", registry=registry)
    changes = Changes(registry)
    counter.inc()
    changes.take()
    counter.inc()
    assert taken(changes)[0].samples == [Sample("calls_total", (), 2)]


def test_a_gauge_is_handed_over_as_it_is() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("waiting", "Waiting.", registry=registry)
    changes = Changes(registry)
    gauge.set(5)
    taken(changes)
    gauge.set(2)
    assert taken(changes)[0].samples == [Sample("waiting", (), 2)]
    gauge.set(math.nan)
    assert math.isnan(taken(changes)[0].samples[0].value)


def test_the_buckets_of_a_histogram_keep_their_order() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("s", "Seconds.", buckets=(1, 5), registry=registry)
    histogram.observe(3)
    (family,) = taken(Changes(registry))
    assert [(sample.name, *sample.labels, sample.value) for sample in family.samples] == [
        ("s_bucket", ("le", "1.0"), 0),
        ("s_bucket", ("le", "5.0"), 1),
        ("s_bucket", ("le", "+Inf"), 1),
        ("s_count", 1),
        ("s_sum", 3),
    ]

"""Token buckets."""

from __future__ import annotations

from satmeter.http.edge.buckets import Buckets


def test_a_burst_then_the_rate() -> None:
    buckets = Buckets(per_s=2, burst=3)
    for _ in range(3):
        assert buckets.wait_s("one", 10.0) == 0
        buckets.charge("one", 10.0, 1)
    assert buckets.wait_s("one", 10.0) == 0.5
    assert buckets.wait_s("other", 10.0) == 0
    assert buckets.wait_s("one", 10.5) == 0


def test_a_debt_has_an_end() -> None:
    buckets = Buckets(per_s=1, burst=10)
    for _ in range(100):
        buckets.charge("one", 0.0, 10)
    assert buckets.wait_s("one", 0.0) == 11


def test_buckets_that_are_full_again_are_dropped() -> None:
    buckets = Buckets(per_s=1, burst=1, kept_max=100)
    for number in range(100):
        buckets.charge(str(number), 0.0, 1)
    buckets.charge("one more", 5.0, 1)
    assert len(buckets._tokens) == 1


def test_more_clients_than_can_be_remembered_drop_the_oldest() -> None:
    buckets = Buckets(per_s=0.001, burst=1, kept_max=100)
    for number in range(1_000):
        buckets.charge(str(number), float(number), 1)
    assert len(buckets._tokens) <= 100
    assert buckets.wait_s("999", 999.0) > 0

"""Costs are counted in whole units, and never beyond what the store can add up."""

from __future__ import annotations

from decimal import Decimal

from satmeter.actors.domain.pricing import Usage
from satmeter.actors.domain.sums import COST_MAX, Cost, Tally, hour_of
from tests.helpers.jobs import HOUR_MS, START_MS, JobBench


def test_a_cost_is_counted_in_billionths_of_a_dollar_and_msat_rounded_up() -> None:
    tally = Tally()
    usages = [Usage(10, 5), Usage(3, 2, cache_read_tokens=100, cache_write_5m_tokens=1), None]
    tally.cost("tiny", usages, Cost(Decimal("0.0000123456"), Decimal(100_000)))
    assert tally == {
        "cost_msat": 13,
        "model_calls:tiny": 1,
        "model_cost_nanodollars:tiny": 12_346,
        "model_input_tokens:tiny": 114,
        "model_cached_tokens:tiny": 100,
        "model_output_tokens:tiny": 7,
    }


def test_what_is_nothing_is_left_out() -> None:
    tally = Tally()
    tally.count("requests", 0)
    tally.cost("free", [Usage(0, 0)], Cost(Decimal(0), Decimal(1)))
    assert tally == {"model_calls:free": 1}


def test_an_absurd_usage_breaks_no_sum() -> None:
    tally = Tally()
    tally.cost("m" * 500, [Usage(10**8, 10**8)], Cost(Decimal("1e40"), Decimal("0.01")))
    assert tally["cost_msat"] == COST_MAX
    assert max(map(len, tally)) < 150


def test_an_hour_is_that_of_the_event() -> None:
    bench = JobBench()
    bench.now_ms = START_MS - START_MS % HOUR_MS + HOUR_MS - 1
    bench.open()
    assert hour_of(bench.events) == START_MS // HOUR_MS
    bench.now_ms += 1
    assert hour_of(bench.pay_eval().events) == START_MS // HOUR_MS + 1
    assert hour_of([]) == 0

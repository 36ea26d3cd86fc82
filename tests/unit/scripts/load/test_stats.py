"""Percentiles in constant memory, within half a percent of the exact ones; and what is counted when."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from satmeter.scripts.load.stats import Histogram, Recorder

DURATIONS = st.lists(st.floats(1e-5, 1e3), min_size=1, max_size=200)


@given(DURATIONS, st.sampled_from([1, 50, 95, 99, 99.9, 100]))
def test_percentiles_are_within_half_a_percent_of_the_exact_ones(durations: list[float], percent: float) -> None:
    histogram = Histogram()
    for duration_s in durations:
        histogram.add(duration_s)
    exact = sorted(durations)[max(math.ceil(len(durations) * percent / 100), 1) - 1]
    found = histogram.percentile_s(percent)
    assert found is not None and abs(found / exact - 1) <= 0.0051
    assert histogram.percentile_s(100) == max(durations)


def test_nothing_has_no_percentile() -> None:
    assert Histogram().percentile_s(50) is None


@given(DURATIONS, DURATIONS)
def test_merged_histograms_are_those_of_all_durations(first: list[float], second: list[float]) -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    for histogram, durations in ((one, first), (other, second), (both, first + second)):
        for duration_s in durations:
            histogram.add(duration_s)
    one.merge(other)
    assert [one.percentile_s(p) for p in (10, 50, 99, 100)] == [both.percentile_s(p) for p in (10, 50, 99, 100)]
    assert one.count == both.count


def test_latency_counts_from_when_a_request_was_due_and_stands_there() -> None:
    recorder = Recorder(duration_s=10)
    recorder.answer(due_s=1.0, ended_s=3.5, first_token_s=1.25)
    assert recorder.latency.max_s == 2.5 and recorder.first_token.max_s == 0.25
    assert [slot.latency.count for slot in recorder.slots] == [0, 1, 0, 0]
    assert [slot.answered for slot in recorder.slots] == [0, 0, 0, 1]


def test_failures_are_counted_by_status_and_code_and_have_no_latency() -> None:
    recorder = Recorder(duration_s=10)
    for text in ("The balance is 5 msat", "The balance is 4 msat"):
        recorder.failure(0.5, 402, "insufficient_balance", text)
    recorder.failure(0.5, 0, "no_answer", "gone")
    assert recorder.examples[402, "insufficient_balance"] == "The balance is 5 msat"
    assert recorder.errors == {(402, "insufficient_balance"): 2, (0, "no_answer"): 1}
    assert recorder.failed == 3 and recorder.latency.count == 0


def test_the_window_forgets_what_is_older_than_five_seconds() -> None:
    recorder = Recorder(duration_s=100)
    for second in range(20):
        recorder.answer(due_s=float(second), ended_s=second + 0.1 + second / 1_000, first_token_s=None)
    recent, span_s = recorder.window(19.5)
    assert recent.answered == 5 and span_s == 4.5
    assert recent.latency.max_s == recorder.latency.max_s
    assert recorder.window(40.0)[0].answered == 0


def test_a_long_test_has_wider_stretches_not_more() -> None:
    recorder = Recorder(duration_s=86_400)
    chance = random.Random(1)
    for _ in range(1_000):
        due_s = chance.uniform(0, 86_400)
        recorder.answer(due_s, due_s + 0.1, None)
    assert len(recorder.slots) <= 301

"""Answers are counted by how they ended and how long they took to begin."""

from __future__ import annotations

from collections import Counter

from satmeter.http.operator.answers import answers_of, counted_as


def test_answers_of_an_hour() -> None:
    counts: Counter[str] = Counter()
    for route, status, seconds in (
        ("/ask", 200, 0.004),
        ("/ask", 200, 0.2),
        ("/ask", 402, 0.001),
        ("/ask", 503, 2.0),
        ("/readyz", 200, 0.1),
        ("/metrics", 200, 0.1),
        ("/operator/look", 303, 0.1),
    ):
        counts.update(counted_as(route, status, seconds))
    found = answers_of(counts)
    assert (found.all, found.failed, found.refused) == (4, 1, 1)
    assert (found.percentile(50), found.percentile(75), found.percentile(95)) == (10, 250, 2_500)


def test_without_answers_or_beyond_all_bounds_there_is_no_percentile() -> None:
    assert answers_of({}).percentile(50) is None
    assert answers_of(Counter(counted_as("/ask", 200, 90.0))).percentile(50) is None

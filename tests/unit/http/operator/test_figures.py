"""Sums come into the right places of a span, by hours and by days."""

from __future__ import annotations

from datetime import UTC, datetime

from satmeter.actors.ports import SumsRead
from satmeter.http.operator.figures import SPANS, by_model, charged, cost, cost_nanodollars, takings_of

HOUR = 500_016


def test_hours_are_put_together_to_the_places_of_a_span() -> None:
    read = SumsRead({(HOUR, "requests"): 1, (HOUR + 5, "requests"): 2, (HOUR + 6, "requests"): 4}, {"requests": 9}, 0)
    span = SPANS["7d"]
    first = HOUR // 6 - 27
    found = takings_of(read, span, first, by_day=False)
    assert found.places[27] == {"requests": 3} and found.total == {"requests": 3}
    assert found.begins[27] == datetime.fromtimestamp(HOUR * 3_600, UTC)
    assert (found.since, found.counted, found.ever) == (None, True, {"requests": 9})


def test_days_are_places_of_their_own() -> None:
    day = HOUR // 24
    found = takings_of(
        SumsRead({(day, "requests"): 5, (day - 90, "requests"): 7}, {}, None), SPANS["90d"], day - 89, by_day=True
    )
    assert found.total == {"requests": 5} and not found.counted
    assert takings_of(SumsRead({}, {}, HOUR), SPANS["90d"], day - 89, by_day=True).since is not None


def test_takings_cost_and_models() -> None:
    sums = {
        "charged_msat": 10,
        "returned_msat": 3,
        "cost_msat": 5,
        "uncovered_msat": 1,
        "model_calls:a": 1,
        "model_calls:b": 2,
        "model_cost_nanodollars:a": 4,
        "model_cost_nanodollars:b": 5,
    }
    assert (charged(sums), cost(sums), cost_nanodollars(sums)) == (7, 6, 9)
    assert list(by_model(sums)) == ["b", "a"]
    assert by_model(sums)["a"] == {"model_calls": 1, "model_cost_nanodollars": 4}

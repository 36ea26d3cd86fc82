"""The picture of a load test is SVG with a title, axes, a legend and every series."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from satmeter.scripts.load.options import Options
from satmeter.scripts.load.plot import plot
from satmeter.scripts.load.report import Percentiles, Point, Report, plan_of

SVG = "{http://www.w3.org/2000/svg}"


def _report(points: list[Point], **options: Any) -> Report:
    return Report(
        started_at="2026-01-01T00:00:00Z",
        plan=plan_of(Options("http://127.0.0.1:1", **options)),
        sessions_open=3,
        opening_s=1.0,
        interrupted=False,
        failure=None,
        load_s=float(len(points)),
        latency=Percentiles(count=1, p50_ms=1.0, p95_ms=2.0, p99_ms=3.0, max_ms=4.0),
        series=points,
    )


def _point(at_s: int, p50_ms: float | None = 10.0, p99_ms: float | None = 20.0, rate: float = 100.0) -> Point:
    return Point(
        at_s=at_s, answered_per_s=rate, failed_per_s=0.0, p50_ms=p50_ms, p99_ms=p99_ms, first_token_p50_ms=p50_ms
    )


def _series(svg: str) -> dict[str, str]:
    root = ElementTree.fromstring(svg)
    return {path.get("data-name", ""): path.get("d", "") for path in root.iter(f"{SVG}path") if path.get("class")}


def _texts(svg: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def _heights(path: str) -> list[float]:
    return [float(step.split()[1]) for step in path.replace("M", "L").replace("h0", "").split("L")[1:]]


def test_it_holds_all_series_a_title_axes_and_a_legend() -> None:
    svg = plot(_report([_point(second) for second in range(10)], stream=True))
    assert list(_series(svg)) == ["p50", "p99", "first text p50", "answered", "failed", "due"]
    texts = _texts(svg)
    assert "Satmeter under load: 3 sessions, 0 streamed requests" in texts
    for word in (*_series(svg), "latency in ms, by when the request was due", "requests/s", "10"):
        assert word in texts
    assert [len(_heights(path)) for path in _series(svg).values()] == [10] * 6


def test_a_closed_loop_has_no_rate_that_is_due() -> None:
    svg = plot(_report([_point(0), _point(1)], rate_per_s=None, think_s=1.0))
    assert list(_series(svg)) == ["p50", "p99", "answered", "failed"]


def test_higher_values_stand_higher_on_both_kinds_of_axes() -> None:
    for highest_ms in (30.0, 30_000.0):
        points = [_point(0, 10.0, 20.0), _point(1, 15.0, highest_ms), _point(2, 10.0, 20.0)]
        series = _series(plot(_report(points)))
        low, high, _ = _heights(series["p99"])
        assert 96 <= high < low <= 96 + 190
        assert all(p50 > p99 for p50, p99 in zip(_heights(series["p50"]), _heights(series["p99"]), strict=True))


def test_a_second_without_an_answer_is_a_gap_and_no_zero() -> None:
    points = [_point(0), _point(1), _point(2, None, None, 0.0), _point(3)]
    p50 = _series(plot(_report(points)))["p50"]
    assert p50.count("M") == 2 and len(_heights(p50)) == 3


@pytest.mark.parametrize("points", [[], [_point(0)], [_point(0, None, None, 0.0)], [_point(0, 0.001, 0.001, 0.0)]])
def test_there_is_a_picture_of_next_to_nothing(points: list[Point]) -> None:
    assert "p99" in _series(plot(_report(points)))

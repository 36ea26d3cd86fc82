"""Charts show every figure once as a bar and once in the table, whatever the figures are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.http.operator.charts import Chart, Series, figure, step_of

AMOUNTS = st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=30)


def chart(*series: list[int]) -> Chart:
    places = [f"place {number}" for number in range(len(series[0]))]
    named = [Series(f"series {number}", values) for number, values in enumerate(series)]
    return Chart("key", "Title", "Meaning.", places, places, named, lambda value: f"{value:,}")


@given(AMOUNTS)
def test_bars_stand_within_the_chart_and_are_as_many_as_the_figures(values: list[int]) -> None:
    root = ElementTree.fromstring(figure(chart(values, [-value for value in values])))
    bars = root.findall(".//rect")
    assert len(bars) == 2 * sum(value != 0 for value in values)
    for bar in bars:
        x, y, width, height = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= 360 and 0 <= y <= y + height <= 190
    cells = [cell.text for cell in root.findall(".//td")]
    assert cells == [f"{shown:,}" for value in values for shown in (value, -value)]


def test_the_highest_bar_reaches_its_line_and_the_labels_tell_the_sum() -> None:
    root = ElementTree.fromstring(figure(chart([5, 10, 0])))
    heights = [float(bar.attrib["height"]) for bar in root.findall(".//rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2) and heights[1] == 162.0
    (picture,) = root.findall(".//svg")
    assert picture.attrib["aria-label"] == "Title. series 0: 15 in all."


@pytest.mark.parametrize(
    ("most", "step"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 5), (21, 10), (41, 20), (10**15, 5 * 10**14)]
)
def test_lines_are_at_round_figures(most: int, step: int) -> None:
    assert step_of(most) == step


def test_what_others_wrote_is_text() -> None:
    evil = "<script>alert(1)</script>\"'"
    drawn = figure(Chart("key", evil, evil, [evil], [evil], [Series(evil, [1])], lambda value: evil))
    assert "<script" not in drawn
    ElementTree.fromstring(drawn)
    assert not re.search(r"\son\w+=|style=", drawn)

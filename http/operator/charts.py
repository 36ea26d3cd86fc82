"""Bar charts as SVG, with the same figures in a table. It is pure: figures in, HTML out, without style or script.

Colours come from classes, so that a style sheet makes them light or dark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

# In tenths of a point: all places are whole numbers of them.
_WIDTH: Final = 3_600
_HEIGHT: Final = 1_900
_LEFT: Final = 460
_RIGHT: Final = 40
_TOP: Final = 80
_BOTTOM: Final = 200
_LEAST: Final = 5
_STEPS: Final = (1, 2, 5)
_LINES: Final = 4
_LABELS: Final = 5


class Series(NamedTuple):
    """Figures under one name, one for each place on the axis."""

    name: str
    values: Sequence[int]


class Chart(NamedTuple):
    """Chart of some series. `labels` and `longs` name the places, shortly and in full; `show` writes a figure."""

    key: str
    title: str
    meaning: str
    labels: Sequence[str]
    longs: Sequence[str]
    series: Sequence[Series]
    show: Callable[[int], str]


def figure(chart: Chart) -> str:
    """Return a figure with its legend, the chart, and the table."""
    key = escape(chart.key)
    legend = "".join(
        f'<li><span class="key bar{number}"></span>{escape(series.name)}</li>'
        for number, series in enumerate(chart.series)
    )
    return (
        f'<figure><figcaption id="{key}-title">{escape(chart.title)}</figcaption>'
        f'<p class="soft small">{escape(chart.meaning)}</p><ul class="legend" role="list">{legend}</ul>'
        f"{_svg(chart)}<details><summary>As a table</summary>{_table(chart)}</details></figure>"
    )


def _svg(chart: Chart) -> str:
    least = min((min(series.values, default=0) for series in chart.series), default=0)
    most = max((max(series.values, default=0) for series in chart.series), default=0)
    step = step_of(max(most, -least, 1) + (min(most, -least) if least < 0 < most else 0))
    low, high = -(-max(-least, 0) // step) * -step, max(-(-max(most, 0) // step) * step, step if least >= 0 else 0)
    scale = _Scale(low, high)
    parts = [_grid(chart, scale, low, high, step), _bars(chart, scale), _axis(chart)]
    total = "; ".join(f"{series.name}: {chart.show(sum(series.values))} in all" for series in chart.series)
    return (
        f'<svg viewBox="0 0 {_at(_WIDTH)} {_at(_HEIGHT)}" role="img" aria-label="{escape(f"{chart.title}. {total}.")}" '
        f'class="chart">{"".join(parts)}</svg>'
    )


def step_of(most: int) -> int:
    """Return the distance of the lines of a grid up to this figure: 1, 2 or 5 with noughts."""
    unit = 1
    while True:
        for step in _STEPS:
            if step * unit * _LINES >= most:
                return step * unit
        unit *= 10


class _Scale(NamedTuple):
    """Scale from the lowest to the highest line."""

    low: int
    high: int

    def y(self, value: int) -> int:
        """Return the height of a figure, in tenths of a point."""
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) // (self.high - self.low)


def _at(tenths: int) -> str:
    return f"{tenths // 10}.{tenths % 10}"


def _grid(chart: Chart, scale: _Scale, low: int, high: int, step: int) -> str:
    lines = []
    for value in range(low, high + 1, step):
        y, kind = scale.y(value), "grid" if value else "zero"
        lines.append(
            f'<line x1="{_at(_LEFT)}" x2="{_at(_WIDTH - _RIGHT)}" y1="{_at(y)}" y2="{_at(y)}" class="{kind}"/>'
            f'<text x="{_at(_LEFT - 50)}" y="{_at(y + 35)}" class="tick end">{escape(chart.show(value))}</text>'
        )
    return "".join(lines)


def _bars(chart: Chart, scale: _Scale) -> str:
    room, count = _WIDTH - _LEFT - _RIGHT, max(len(chart.labels), 1)
    width = max(room * 8 // (10 * count * max(len(chart.series), 1)), _LEAST)
    bars, zero = [], scale.y(0)
    for number, series in enumerate(chart.series):
        for place, value in enumerate(series.values):
            if value:
                x = _LEFT + (room * (10 * place + 1)) // (10 * count) + width * number
                y, tall = min(scale.y(value), zero), max(abs(scale.y(value) - zero), _LEAST)
                title = f"<title>{escape(f'{chart.longs[place]}: {series.name} {chart.show(value)}')}</title>"
                place_of = f'x="{_at(x)}" y="{_at(y)}" width="{_at(width)}" height="{_at(tall)}"'
                bars.append(f'<rect {place_of} class="bar{number}">{title}</rect>')
    return "".join(bars)


def _axis(chart: Chart) -> str:
    room, count = _WIDTH - _LEFT - _RIGHT, max(len(chart.labels), 1)
    every = -(-count // _LABELS)
    return "".join(
        f'<text x="{_at(_LEFT + room * (2 * place + 1) // (2 * count))}" y="{_at(_HEIGHT - 50)}" class="tick middle">'
        f"{escape(label)}</text>"
        for place, label in enumerate(chart.labels)
        if place % every == every // 2
    )


def _table(chart: Chart) -> str:
    heads = "".join(f'<th scope="col" class="number">{escape(series.name)}</th>' for series in chart.series)
    rows = "".join(
        f'<tr><th scope="row">{escape(long)}</th>'
        + "".join(f'<td class="number">{escape(chart.show(series.values[place]))}</td>' for series in chart.series)
        + "</tr>"
        for place, long in enumerate(chart.longs)
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(chart.title)}, as a table"><table>'
        f'<thead><tr><th scope="col">Time (UTC)</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )

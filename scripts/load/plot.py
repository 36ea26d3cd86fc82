"""Picture of a load test: latency and throughput over time, as SVG, drawn without a library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from .report import Report

_WIDTH: Final = 900
_LEFT: Final = 80
_RIGHT: Final = 24
_PANEL_HEIGHT: Final = 190
_LATENCY_TOP: Final = 96
_RATE_TOP: Final = 346
_HEIGHT: Final = 590
# From this ratio on, a linear axis would press the lower curve to the floor.
_LOG_FROM: Final = 20.0
_COLOURS: Final = {
    "p50": "#1f77b4",
    "p99": "#d62728",
    "first text p50": "#2ca02c",
    "answered": "#1f77b4",
    "failed": "#d62728",
    "due": "#7f7f7f",
}


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Map from a value to a height, and the values at which to draw lines."""

    height: Callable[[float], float]
    ticks: Sequence[float]


def plot(report: Report) -> str:
    """Return the picture as SVG: two panels under each other, with the same time axis."""
    points = report.series
    latency = [
        _Series("p50", [point.p50_ms for point in points]),
        _Series("p99", [point.p99_ms for point in points]),
    ]
    if report.plan.stream:
        latency.append(_Series("first text p50", [point.first_token_p50_ms for point in points]))
    rates = [
        _Series("answered", [point.answered_per_s for point in points]),
        _Series("failed", [point.failed_per_s for point in points]),
    ]
    if report.plan.rate_per_s is not None and report.plan.loop == "open":
        rates.append(_Series("due", [report.plan.rate_per_s] * len(points)))
    # Each value stands in the middle of its stretch.
    width_s = points[1].at_s - points[0].at_s if len(points) > 1 else max(report.load_s, 1.0)
    at_s = [point.at_s + width_s / 2 for point in points]
    end_s = max(report.load_s, width_s)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    font = 'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#222"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 30, _title(report), 'font-size="17" font-weight="bold"'),
        _text(_LEFT, 52, _subtitle(report), 'fill="#555"'),
        *_panel(latency, at_s, end_s, _LATENCY_TOP, "latency in ms, by when the request was due"),
        *_panel(rates, at_s, end_s, _RATE_TOP, "requests/s"),
        _text(middle, _RATE_TOP + _PANEL_HEIGHT + 42, "seconds since the load began", 'text-anchor="middle"'),
        "</svg>",
    ]
    return "\n".join([*drawn, ""])


def _title(report: Report) -> str:
    kind = "streamed requests" if report.plan.stream else "requests"
    return f"Satmeter under load: {report.sessions_open:,} sessions, {report.requests:,} {kind}"


def _subtitle(report: Report) -> str:
    plan = report.plan
    loop = f"open loop, {plan.rate_per_s:g} requests/s due" if plan.loop == "open" else ""
    loop = loop or f"closed loop, {plan.think_s:g} s of thought"
    figures = report.latency
    if figures is None or figures.p50_ms is None or figures.p99_ms is None:
        return f"{loop}; nothing was answered"
    latency = f"p50 {figures.p50_ms:,.1f} ms, p99 {figures.p99_ms:,.1f} ms"
    return f"{loop}; answered {report.answered_per_s:,.1f} requests/s; {latency}; {report.failed:,} failed"


def _panel(series: Sequence[_Series], at_s: Sequence[float], end_s: float, top: float, label: str) -> list[str]:
    values = [value for one in series for value in one.values if value is not None]
    scale = _scale(values, top)
    bottom, right = top + _PANEL_HEIGHT, _WIDTH - _RIGHT

    def x(second: float) -> float:
        return _LEFT + second / end_s * (right - _LEFT)

    drawn = [_text(_LEFT, top - 12, label, 'font-weight="bold"')]
    for tick in scale.ticks:
        y = scale.height(tick)
        drawn.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        drawn.append(_text(_LEFT - 8, y + 4.5, f"{tick:,g}", 'text-anchor="end"'))
    for tick in _linear_ticks(end_s, 10):
        drawn.append(f'<line x1="{x(tick):.1f}" y1="{bottom}" x2="{x(tick):.1f}" y2="{bottom + 5}" stroke="#888"/>')
        drawn.append(_text(x(tick), bottom + 20, f"{tick:,g}", 'text-anchor="middle"'))
    drawn.append(f'<path d="M{_LEFT} {top}V{bottom}H{right}" fill="none" stroke="#888"/>')
    for number, one in enumerate(series):
        drawn.append(_curve(one, [x(second) for second in at_s], scale))
        drawn.append(_legend(one.name, right - 120 * (len(series) - number), top - 12))
    return drawn


def _curve(series: _Series, xs: Sequence[float], scale: _Scale) -> str:
    """Draw a line with gaps where there are no values; a value between two gaps is a dot."""
    path, drawing = [], False
    for x, value in zip(xs, series.values, strict=True):
        if value is not None:
            path.append(f"{'L' if drawing else 'M'}{x:.1f} {scale.height(value):.1f}")
            if not drawing:
                path.append("h0")
        drawing = value is not None
    dash = ' stroke-dasharray="6 4"' if series.name == "due" else ""
    style = f'stroke="{_COLOURS[series.name]}" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"{dash}'
    return f'<path class="series" data-name="{series.name}" d="{"".join(path) or "M0 0"}" fill="none" {style}/>'


def _legend(name: str, x: float, y: float) -> str:
    mark = f'<line x1="{x}" y1="{y - 4}" x2="{x + 20}" y2="{y - 4}" stroke="{_COLOURS[name]}" stroke-width="3"/>'
    return mark + _text(x + 26, y, name, "")


def _scale(values: Sequence[float], top: float) -> _Scale:
    positive = [value for value in values if value > 0]
    highest = max(positive, default=1.0)
    # A rate of zero has no logarithm, so that the axis stays linear.
    if positive and len(positive) == len(values) and highest / min(positive) > _LOG_FROM:
        return _log_scale(min(positive), highest, top)
    ticks = _linear_ticks(highest, 5)
    end = max(ticks[-1], highest)
    return _Scale(lambda value: top + _PANEL_HEIGHT * (1 - value / end), ticks)


def _log_scale(lowest: float, highest: float, top: float) -> _Scale:
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    steps = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [float(f"{step}e{power}") for power in range(first, last + 1) for step in steps]
    ticks = [tick for tick in ticks if tick <= 10.0**last]

    def height(value: float) -> float:
        return top + _PANEL_HEIGHT * (1 - (math.log10(value) - first) / (last - first))

    return _Scale(height, ticks)


def _linear_ticks(highest: float, count: int) -> list[float]:
    """Return about `count` round numbers, from 0 to the first that is not below the highest."""
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'

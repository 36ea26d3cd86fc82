"""Grids of figures that `scripts/bench` has measured, for people and for programs (`--json`)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

FORMAT: Final = 1
"""Version of the JSON, raised when a field changes its meaning or goes away."""

Cell = str | int | float | None


class Column(msgspec.Struct, frozen=True):
    """A column: the name of its field, the heading with its unit, and how many decimals people see."""

    name: str
    heading: str
    decimals: int = 0


class Grid(msgspec.Struct, kw_only=True):
    """Grid of figures of one kind. `note`: what a reader must know to understand them."""

    title: str
    columns: Sequence[Column]
    rows: list[dict[str, Cell]] = []
    note: str = ""

    def add(self, *cells: Cell) -> None:
        """Add a row, in the order of the columns. Raises `ValueError` when it has another length."""
        self.rows.append(dict(zip((column.name for column in self.columns), cells, strict=True)))

    def show(self, console: Console) -> None:
        """Print the grid."""
        table = Table(title=self.title, title_justify="left", caption=self.note or None, caption_justify="left")
        for column in self.columns:
            texts = all(isinstance(row[column.name], str) for row in self.rows)
            table.add_column(column.heading, justify="left" if texts else "right")
        for row in self.rows:
            table.add_row(*(shown(row[column.name], column.decimals) for column in self.columns))
        console.print(table)


class Report(msgspec.Struct, kw_only=True):
    """A whole run: the machine, what was asked for, each part's grids, and why a part failed."""

    format: int = FORMAT
    started_at: str
    machine: dict[str, str | int]
    options: dict[str, float | int | bool]
    parts: dict[str, list[Grid]] = {}
    failures: dict[str, str] = {}
    took_s: dict[str, float] = {}


def shown(cell: Cell, decimals: int) -> str:
    """Return a cell as people see it; a hyphen for what could not be measured."""
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:,.{decimals}f}"


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each figure over rounds that all have it. Raises `ValueError` without rounds."""
    if not rounds:
        raise ValueError("there is no median of nothing")
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def ratio(part: float, whole: float) -> float | None:
    """Divide the part by the whole; return None when the whole is 0."""
    return part / whole if whole else None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the value that this percentage of the values stayed within; None without values."""
    if not values:
        return None
    ordered = sorted(values)
    # This is the nearest rank, in whole numbers: 99 % of 100 values is the 99th.
    rank = -(-round(len(ordered) * percent * 1_000) // 100_000)
    return ordered[max(rank, 1) - 1]


def encode(report: Report) -> bytes:
    """Return the report as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"

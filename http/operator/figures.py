"""Figures of the operator's page, gathered at one moment from the store, the treasury's findings and this front."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

from ...actors.domain import sums as names
from ...actors.domain.pricing import BtcPrice
from ...actors.model_health.outage import ModelWord
from ...actors.operator.books import Census, OpenPayouts, OperatorBooks, Partitions
from ...actors.ports import Findings, PortError, Refusals, Standing, SumsRead
from ..service.health import Health
from ..state import AppState

_DAY_HOURS: Final = 24
T = TypeVar("T")


class Span(NamedTuple):
    """Span of time that the page shows: so many places of so many hours each, the last one under way."""

    key: str
    title: str
    places: int
    hours: int


SPANS: Final[Mapping[str, Span]] = {
    span.key: span
    for span in (
        Span("24h", "24 hours", 24, 1),
        Span("7d", "7 days", 28, 6),
        Span("90d", "90 days", 90, 24),
    )
}


class Takings(NamedTuple):
    """Sums of a span: of each place in order, and together; `ever` since the store was first used.

    `since`: the first hour that was counted from its beginning, if that was not the first of all.
    """

    span: Span
    begins: Sequence[datetime]
    places: Sequence[Mapping[str, int]]
    total: Mapping[str, int]
    ever: Mapping[str, int]
    since: datetime | None
    counted: bool


class Figures(NamedTuple):
    """All figures; None for a part that can't be read just now. `unreachable`: as `/readyz` names them."""

    at: datetime
    takings: Takings | None
    standing: Standing | None
    findings: Findings | None
    refusals: Refusals
    price: BtcPrice
    unreachable: Sequence[str]
    payouts: OpenPayouts | None
    census: Census | None
    partitions: Partitions | None
    upstreams: Mapping[str, ModelWord] | None
    answers: Mapping[str, int] | None


async def gather(state: AppState, health: Health, books: OperatorBooks, span: Span) -> Figures:
    """Gather the figures. Raises nothing of the ports'."""
    now_ms = state.now_ms()
    takings, payouts, census, partitions, upstreams, answers = await asyncio.gather(
        _or_none(_takings(books, span, now_ms)),
        _or_none(books.payouts()),
        _or_none(books.census()),
        _or_none(books.partitions()),
        _or_none(books.upstreams()),
        _or_none(state.answers.last_hour()),
    )
    findings, refusals = await state.findings.current()
    return Figures(
        datetime.fromtimestamp(now_ms // 1_000, UTC),
        takings,
        await state.solvency.current(),
        findings,
        refusals,
        await state.prices.current(),
        await health.unreachable(),
        payouts,
        census,
        partitions,
        upstreams,
        answers,
    )


async def _or_none(reading: Awaitable[T]) -> T | None:
    try:
        return await reading
    except PortError:
        return None


async def _takings(books: OperatorBooks, span: Span, now_ms: int) -> Takings:
    hour = now_ms // names.HOUR_MS
    last = hour // span.hours
    first = last - span.places + 1
    days = range(first * span.hours // _DAY_HOURS, hour // _DAY_HOURS + 1)
    by_day = span.hours == _DAY_HOURS
    read = await (books.days(days) if by_day else books.hours(days))
    return takings_of(read, span, first, by_day=by_day)


def takings_of(read: SumsRead, span: Span, first: int, *, by_day: bool) -> Takings:
    """Return the sums of the places from `first` on."""
    places: list[Counter[str]] = [Counter() for _ in range(span.places)]
    for (time, name), amount in read.sums.items():
        place = (time if by_day else time // span.hours) - first
        if 0 <= place < span.places:
            places[place][name] += amount
    total: Counter[str] = Counter()
    for each in places:
        total.update(each)
    begins = [_begin((first + place) * span.hours) for place in range(span.places)]
    since = _begin(read.from_hour) if read.from_hour else None
    return Takings(span, begins, places, total, read.ever, since, read.from_hour is not None)


def _begin(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * names.HOUR_MS // 1_000, UTC)


def charged(sums: Mapping[str, int]) -> int:
    """Return the takings in msat: charges of requests and work, less what was given back of them."""
    return sums.get(names.CHARGED, 0) - sums.get(names.RETURNED, 0)


def cost(sums: Mapping[str, int]) -> int:
    """Return what the operator spent, in msat: models and infrastructure, and routes beyond their reserves."""
    return sums.get(names.COST, 0) + sums.get(names.UNCOVERED, 0)


def by_model(sums: Mapping[str, int]) -> Mapping[str, Mapping[str, int]]:
    """Return the sums of each model, by the names without it; the one with most calls first."""
    found: dict[str, dict[str, int]] = {}
    for key, amount in sums.items():
        name, colon, model = key.partition(":")
        if colon:
            found.setdefault(model, {})[name] = amount
    order = sorted(found, key=lambda model: (-found[model].get(names.MODEL_CALLS, 0), model))
    return {model: found[model] for model in order}


def cost_nanodollars(sums: Mapping[str, int]) -> int:
    """Return the cost of models and infrastructure in billionths of a dollar."""
    prefix = f"{names.MODEL_COST_USD}:"
    return sum(amount for name, amount in sums.items() if name.startswith(prefix))

"""Answers of `/metrics`: the counts of this process, or of the whole server, and what is known of the shop."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.pricing import BtcPrice, PriceOrigin
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.metrics.changes import Changes, Family
from satmeter.actors.metrics.link import NoTotalsError
from satmeter.actors.metrics.totals import Totals
from satmeter.actors.model_health.outage import ModelOutage, ModelWord, Stage
from satmeter.http.metrics import AskTotals, Metrics
from tests.helpers.fakes import FakeModelNews, FakeSolvency, FixedPrices
from tests.helpers.jobs import BTC, START_MS

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def front(prices: FixedPrices | None = None, totals: AskTotals | None = None) -> Metrics:
    return Metrics(FakeSolvency(), FakeModelNews(), lambda: START_MS + 30_000, prices=prices, totals=totals)


async def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = plain_text(bytes((await metrics.text("")).body).decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


async def test_a_front_without_a_server_shows_its_own_counts() -> None:
    metrics = front()
    metrics.answered("GET", "/pricing", 200, 0.02)
    assert (await samples(metrics))["satmeter_http_requests_total", "GET", "/pricing", "200"] == 1


async def test_a_front_shows_the_totals_of_all_fronts_of_its_server() -> None:
    totals = Totals()

    async def ask() -> Sequence[Family]:
        return totals.families()

    fronts = [front(totals=ask), front(totals=ask)]
    for count, each in enumerate(fronts, 1):
        for _ in range(count):
            each.answered("GET", "/pricing", 200, 0.02)
        totals.enter(each, "front")
        totals.take(each, Changes(each.registry).take())
    found = await samples(fronts[0])
    assert found["satmeter_http_requests_total", "GET", "/pricing", "200"] == 3
    assert found["satmeter_http_request_seconds_bucket", "0.025", "GET", "/pricing"] == 3
    assert found["satmeter_http_request_seconds_bucket", "0.01", "GET", "/pricing"] == 0
    assert found["satmeter_processes", "front"] == 2
    assert "satmeter_http_requests_created" not in {name for name, *_ in found}


async def test_both_formats_can_be_read_by_prometheus_s_own_parsers() -> None:
    totals = Totals()
    totals.enter("a", "front")

    async def ask() -> Sequence[Family]:
        return totals.families()

    metrics = front(FixedPrices(BTC), ask)
    metrics.answered("GET", "/pricing", 200, 0.02)
    totals.take("a", Changes(metrics.registry).take())
    answer = await metrics.text(OPEN_METRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = open_metrics(bytes(answer.body).decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"satmeter_http_requests", "satmeter_http_request_seconds", "satmeter_btc_price_usd"} <= names


async def test_without_totals_there_is_no_answer_rather_than_one_that_counts_too_little() -> None:
    async def ask() -> Sequence[Family]:
        raise NoTotalsError

    metrics = front(totals=ask)
    metrics.answered("GET", "/pricing", 200, 0.02)
    with pytest.raises(RefusedError) as refused:
        await metrics.text("")
    assert refused.value.refusal.code is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        (BTC, (100_000.0, "30.0", 0.0)),
        (BtcPrice(Decimal(90_000), PriceOrigin.FALLBACK, START_MS), (90_000.0, "nan", 1.0)),
    ],
)
async def test_the_price_is_shown_with_its_age(price: BtcPrice, shown: tuple[float, str, float]) -> None:
    found = await samples(front(FixedPrices(price)))
    names = ("satmeter_btc_price_usd",), ("satmeter_btc_price_age_seconds",), ("satmeter_btc_price_fallback",)
    usd, age, fallback = (found[name] for name in names)
    assert (usd, str(age), fallback) == shown


async def test_each_upstream_is_shown_as_up_or_away() -> None:
    metrics = front()
    assert (await samples(metrics))["satmeter_upstream_up", "one"] == 1
    outage = ModelOutage(Stage.DOWN, ModelFault.UNREACHABLE, START_MS, START_MS + 60_000)
    away = Metrics(FakeSolvency(), FakeModelNews(ModelWord(outage)), lambda: START_MS)
    assert (await samples(away))["satmeter_upstream_up", "one"] == 0

"""Log of prices: trouble when it begins and when it is over, not at each attempt."""

from __future__ import annotations

from decimal import Decimal

from structlog.testing import capture_logs

from satmeter.actors.domain.pricing import BtcPrice
from satmeter.actors.ports import TransientError
from satmeter.actors.services.oracle import Oracle
from tests.unit.actors.services.test_oracle import (
    FALLBACK,
    MINUTE_MS,
    SECOND_MS,
    Clock,
    Source,
    _until,
    clock,
    fetched,
    make_cache,
)

__all__ = ["clock"]


async def test_a_source_that_fails_is_logged_when_it_begins_and_when_it_is_over(clock: Clock) -> None:
    source = Source(TransientError("no answer"))
    oracle = Oracle(source, FALLBACK, clock)
    with capture_logs() as logged:
        for _ in range(3):
            await oracle.price()
            clock.ms += 2 * MINUTE_MS
        source.answer = Decimal(90_000)
        await oracle.price()
    assert [entry["event"] for entry in logged] == ["btc_price_fetch_failed", "btc_price_back"]


async def test_an_oracle_that_is_away_is_logged_when_it_begins_and_when_it_is_back(clock: Clock) -> None:
    away = True

    async def ask() -> BtcPrice:
        if away:
            raise TransientError("gone")
        return fetched(90_000, clock.ms)

    cache = make_cache(ask, clock)
    with capture_logs() as logged:
        for turn in range(4):
            away = turn < 3
            await cache.current()
            await _until(lambda: cache._refreshing is None)
            clock.ms += 20 * SECOND_MS
    assert [entry["event"] for entry in logged] == ["btc_price_oracle_unreachable", "btc_price_oracle_back"]

"""The oracle and the price caches that ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from satmeter.actors.domain.pricing import BtcPrice, PriceOrigin
from satmeter.actors.ports import TransientError
from satmeter.actors.services.oracle import Oracle, PriceCache
from tests.helpers.patience import PATIENCE_S

FALLBACK = Decimal(100_000)
SECOND_MS = 1_000
MINUTE_MS = 60_000


class Clock:
    """A clock that stands still until it is moved. Milliseconds."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


class Source:
    """A price source whose answer is set by the test, and which can be held up."""

    def __init__(self, answer: Decimal | Exception) -> None:
        self.answer = answer
        self.fetches = 0
        self.began = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.closed = False

    async def fetch(self) -> Decimal:
        self.fetches += 1
        self.began.set()
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        self.closed = True


def fetched(usd: int | Decimal, at_ms: int) -> BtcPrice:
    return BtcPrice(Decimal(usd), PriceOrigin.COINGECKO, at_ms)


def fallback(at_ms: int) -> BtcPrice:
    return BtcPrice(FALLBACK, PriceOrigin.FALLBACK, at_ms)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> Source:
    return Source(Decimal(90_000))


@pytest.fixture
def oracle(source: Source, clock: Clock) -> Oracle:
    return Oracle(source, FALLBACK, clock, fetch_timeout_s=0.05)


async def test_a_price_is_fetched_once_a_minute(oracle: Oracle, source: Source, clock: Clock) -> None:
    first = await oracle.price()
    assert first == fetched(90_000, clock.ms)
    clock.ms += MINUTE_MS - 1
    assert await oracle.price() == first
    assert source.fetches == 1
    clock.ms += 1
    source.answer = Decimal(91_000)
    assert await oracle.price() == fetched(91_000, clock.ms)
    assert source.fetches == 2


async def test_callers_at_once_share_one_fetch(oracle: Oracle, source: Source) -> None:
    source.may_answer.clear()
    callers = [asyncio.create_task(oracle.price()) for _ in range(20)]
    await asyncio.wait_for(source.began.wait(), PATIENCE_S)
    source.may_answer.set()
    prices = await asyncio.gather(*callers)
    assert source.fetches == 1
    assert len(set(prices)) == 1


async def test_a_caller_that_gives_up_does_not_end_the_fetch_for_the_others(source: Source, clock: Clock) -> None:
    oracle = Oracle(source, FALLBACK, clock)
    source.may_answer.clear()
    impatient = asyncio.create_task(oracle.price())
    await asyncio.wait_for(source.began.wait(), PATIENCE_S)
    patient = asyncio.create_task(oracle.price())
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    source.may_answer.set()
    assert await patient == fetched(90_000, clock.ms)
    assert source.fetches == 1


async def test_the_last_good_price_stands_in_for_ten_minutes_with_its_age_and_then_the_fallback(
    oracle: Oracle, source: Source, clock: Clock
) -> None:
    good = await oracle.price()
    source.answer = TransientError("down")
    clock.ms += 10 * MINUTE_MS - 1
    assert await oracle.price() == good
    clock.ms += 1
    assert await oracle.price() == fallback(clock.ms)
    source.answer = Decimal(95_000)
    clock.ms += 10 * SECOND_MS + 1
    assert await oracle.price() == fetched(95_000, clock.ms)


async def test_without_any_fetched_price_the_fallback_is_taken(oracle: Oracle, source: Source, clock: Clock) -> None:
    source.answer = TransientError("down")
    assert await oracle.price() == fallback(clock.ms)


async def test_a_dead_source_is_left_alone_for_ten_seconds(oracle: Oracle, source: Source, clock: Clock) -> None:
    source.answer = TransientError("down")
    for _ in range(5):
        await oracle.price()
    assert source.fetches == 1
    clock.ms += 10 * SECOND_MS + 1
    await oracle.price()
    assert source.fetches == 2


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("broken"), TimeoutError()])
async def test_no_failure_of_the_source_reaches_a_caller(
    oracle: Oracle, source: Source, clock: Clock, error: Exception
) -> None:
    source.answer = error
    assert await oracle.price() == fallback(clock.ms)


async def test_a_source_that_hangs_is_given_up(oracle: Oracle, source: Source, clock: Clock) -> None:
    source.may_answer.clear()
    assert await asyncio.wait_for(oracle.price(), PATIENCE_S) == fallback(clock.ms)


NONSENSE = ["0", "-1", "-90000", "NaN", "sNaN", "Infinity", "-Infinity", "1e30", "1e-30", "1e999999", "9" * 40]


@pytest.mark.parametrize("text", NONSENSE)
async def test_nonsense_is_never_taken_instead_of_the_fallback(
    oracle: Oracle, source: Source, clock: Clock, text: str
) -> None:
    source.answer = Decimal(text)
    assert await oracle.price() == fallback(clock.ms)


@pytest.mark.parametrize("text", [*NONSENSE, "8999.99", "900000.01"])
async def test_nonsense_is_never_taken_instead_of_the_last_good_price(
    oracle: Oracle, source: Source, clock: Clock, text: str
) -> None:
    good = await oracle.price()
    source.answer = Decimal(text)
    clock.ms += MINUTE_MS
    assert await oracle.price() == good


@pytest.mark.parametrize(
    ("usd", "taken"), [("10000", True), ("9999.99", False), ("1000000", True), ("1000000.01", False)]
)
async def test_a_price_may_be_ten_times_off_the_fallback_and_no_more(
    oracle: Oracle, source: Source, usd: str, taken: bool
) -> None:
    source.answer = Decimal(usd)
    origin = (await oracle.price()).origin
    assert origin is (PriceOrigin.COINGECKO if taken else PriceOrigin.FALLBACK)


async def test_a_price_with_absurdly_many_digits_is_not_taken(oracle: Oracle, source: Source, clock: Clock) -> None:
    source.answer = Decimal("90000." + "1" * 1_000)
    assert await oracle.price() == fallback(clock.ms)


async def test_a_clock_that_was_set_back_does_not_make_an_old_price_young(
    oracle: Oracle, source: Source, clock: Clock
) -> None:
    await oracle.price()
    clock.ms -= 60 * MINUTE_MS
    assert await oracle.price() == fetched(90_000, clock.ms)
    assert source.fetches == 2


async def test_closing_ends_a_fetch_and_the_source(oracle: Oracle, source: Source) -> None:
    source.may_answer.clear()
    caller = asyncio.create_task(oracle.price())
    await asyncio.wait_for(source.began.wait(), PATIENCE_S)
    await oracle.close()
    assert source.closed
    with pytest.raises(asyncio.CancelledError):
        await caller


class Asked:
    """An oracle as the cache sees it: something to await, which can fail or hang."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.usd = 90_000
        self.error: Exception | None = None
        self.asked = 0
        self.began = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> BtcPrice:
        self.asked += 1
        self.began.set()
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return fetched(self.usd, self.clock.ms)


@pytest.fixture
def asked(clock: Clock) -> Asked:
    return Asked(clock)


def make_cache(ask: Callable[[], Awaitable[BtcPrice]], clock: Clock) -> PriceCache:
    return PriceCache(ask, FALLBACK, clock, ask_timeout_s=0.05)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


async def test_the_first_caller_waits_for_the_oracle(asked: Asked, clock: Clock) -> None:
    assert await make_cache(asked, clock).current() == fetched(90_000, clock.ms)


async def test_callers_that_come_first_together_ask_once(asked: Asked, clock: Clock) -> None:
    cache = make_cache(asked, clock)
    assert len({*await asyncio.gather(*(cache.current() for _ in range(20)))}) == 1
    assert asked.asked == 1


async def test_nobody_waits_after_that_and_the_price_is_renewed_behind_their_backs(asked: Asked, clock: Clock) -> None:
    cache = PriceCache(asked, FALLBACK, clock)
    first = await cache.current()
    clock.ms += 15 * SECOND_MS - 1
    assert await cache.current() == first
    assert asked.asked == 1
    clock.ms += 1
    asked.usd = 91_000
    asked.may_answer.clear()
    assert await cache.current() == first
    await _until(lambda: asked.asked == 2)
    assert await cache.current() == first
    asked.may_answer.set()
    await _until(lambda: cache._refreshing is None)
    assert (await cache.current()).usd == 91_000
    assert asked.asked == 2


async def test_an_unreachable_oracle_leaves_the_last_price_for_ten_minutes_and_then_the_fallback(
    asked: Asked, clock: Clock
) -> None:
    cache = make_cache(asked, clock)
    good = await cache.current()
    asked.error = ConnectionError("the actor died")
    clock.ms += 10 * MINUTE_MS - 1
    assert await cache.current() == good
    await _until(lambda: cache._refreshing is None)
    clock.ms += 1
    assert await cache.current() == fallback(clock.ms)


async def test_a_first_call_to_an_oracle_that_hangs_gets_the_fallback_and_later_ones_do_not_wait(
    asked: Asked, clock: Clock
) -> None:
    cache = make_cache(asked, clock)
    asked.may_answer.clear()
    assert await asyncio.wait_for(cache.current(), PATIENCE_S) == fallback(clock.ms)
    clock.ms += 15 * SECOND_MS
    later = asyncio.create_task(cache.current())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert later.done()
    assert later.result() == fallback(clock.ms)
    await cache.close()


async def test_after_an_idle_quarter_of_an_hour_the_oracle_is_asked_rather_than_the_fallback_taken(
    asked: Asked, clock: Clock
) -> None:
    cache = make_cache(asked, clock)
    await cache.current()
    clock.ms += 15 * MINUTE_MS
    assert await cache.current() == fetched(90_000, clock.ms)


async def test_a_recovered_oracle_is_believed_again(asked: Asked, clock: Clock) -> None:
    cache = make_cache(asked, clock)
    asked.error = ConnectionError()
    assert await cache.current() == fallback(clock.ms)
    asked.error = None
    clock.ms += 15 * SECOND_MS
    await cache.current()
    await _until(lambda: cache._refreshing is None)
    assert (await cache.current()).origin is PriceOrigin.COINGECKO


async def test_a_caller_of_the_cache_that_gives_up_does_not_end_the_refresh(asked: Asked, clock: Clock) -> None:
    cache = PriceCache(asked, FALLBACK, clock)
    asked.may_answer.clear()
    impatient = asyncio.create_task(cache.current())
    await asyncio.wait_for(asked.began.wait(), PATIENCE_S)
    impatient.cancel()
    asked.may_answer.set()
    assert await cache.current() == fetched(90_000, clock.ms)
    assert asked.asked == 1


async def test_the_wait_that_the_source_asks_for_is_kept(oracle: Oracle, source: Source, clock: Clock) -> None:
    source.answer = TransientError("the price source answered 429", 120.0)
    for _ in range(12):
        await oracle.price()
        clock.ms += 10 * SECOND_MS - 1
    assert source.fetches == 1
    clock.ms += SECOND_MS
    await oracle.price()
    assert source.fetches == 2
    # A short wait does not shorten ours, and a clock that is set back prolongs none.
    source.answer = TransientError("the price source answered 429", 1.0)
    clock.ms -= 3 * MINUTE_MS
    await oracle.price()
    assert source.fetches == 3
    clock.ms += 2 * SECOND_MS
    await oracle.price()
    assert source.fetches == 3

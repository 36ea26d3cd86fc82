"""State of the model provider: its outage and its waits, in memory and in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.model_outage import RedisModelBoard
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.model_health.outage import (
    ASK_BEFORE_SALES_S,
    ModelBoard,
    ModelCache,
    ModelOutage,
    ModelWait,
    ModelWord,
    Stage,
    backoff_ms,
)
from satmeter.actors.ports import TransientError
from satmeter.scripts.simulation.store.model_board import BoardData, SimulatedModelBoard
from tests.helpers.model_boards import START_MS, Clock, FakeBoard, outage

DOWN = outage(until_ms=START_MS)
TRIAL = outage(Stage.TRIAL, until_ms=START_MS)
MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("known", "after_ms", "down", "closed"),
    [
        (None, 0, False, False),
        (DOWN, -1, True, True),
        (DOWN, 5_000, True, True),
        (DOWN, 10 * MINUTE_MS, True, True),
        (DOWN, 10 * MINUTE_MS + 1, False, False),
        (TRIAL, -1, False, True),
        (TRIAL, 0, False, False),
        (TRIAL, 11 * MINUTE_MS, False, False),
    ],
)
def test_an_outage_closes_the_shop_until_it_is_over_or_nobody_looks_after_it(
    known: ModelOutage | None, after_ms: int, down: bool, closed: bool
) -> None:
    word, now_ms = ModelWord(known), START_MS + after_ms
    assert (word.down(now_ms) is not None, word.closed(now_ms) is not None) == (down, closed)


def test_a_wait_is_for_its_model_and_ends() -> None:
    wait = ModelWait(ModelFault.LIMITED, START_MS + 1)
    word = ModelWord(waits={"sonnet": wait})
    assert word.wait("sonnet", START_MS) == wait
    assert word.wait("sonnet", START_MS + 1) is None is word.wait("haiku", START_MS)


def test_the_next_try_is_later_each_time_up_to_a_quarter_of_a_minute_and_never_at_the_same_moment() -> None:
    assert [backoff_ms(tries, lambda: 0.0) for tries in range(6)] == [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]
    assert backoff_ms(10_000, lambda: 1.0) == 12_000


class _Reached:
    """A simulated store that always answers."""

    async def ask(self, operation: Callable[[], Any], **_: object) -> Any:
        return operation()


@pytest.fixture(params=["memory", "simulated", "store"])
def board(request: pytest.FixtureRequest, redis: Redis) -> ModelBoard:
    """Those of the tests and the simulator, too, so that they are held to the real one."""
    match request.param:
        case "memory":
            return FakeBoard()
        case "simulated":
            return SimulatedModelBoard(_Reached(), BoardData())  # type: ignore[arg-type]
    return RedisModelBoard(redis)


async def test_a_board_swaps_an_outage_only_for_the_one_that_is_known(board: ModelBoard) -> None:
    later = outage(Stage.TRIAL, ModelFault.OVERLOADED, START_MS + 9, 3)
    assert await board.read() == ModelWord()
    assert await board.swap(None, DOWN) and not await board.swap(None, later)
    assert (await board.read()).outage == DOWN
    assert not await board.swap(later, None) and await board.swap(DOWN, later)
    assert (await board.read()).outage == later
    assert await board.swap(later, None) and (await board.read()).outage is None


async def test_a_board_counts_failures_in_a_row(board: ModelBoard) -> None:
    assert [await board.count_failure() for _ in range(3)] == [1, 2, 3]
    await board.forget_failures()
    assert (await board.read()).failures == 0
    await board.count_failure()
    await board.swap(None, DOWN)
    assert (await board.read()).failures == 1
    await board.swap(DOWN, None)
    assert (await board.read()).failures == 0


async def test_a_board_keeps_the_waits_of_each_model(board: ModelBoard) -> None:
    first, second = ModelWait(ModelFault.LIMITED, 5), ModelWait(ModelFault.OVERLOADED, 6)
    await board.tell_wait("a-model:1", first)
    await board.tell_wait("b", first)
    await board.tell_wait("b", second)
    assert (await board.read()).waits == {"a-model:1": first, "b": second}


async def test_what_the_store_holds_expires_by_itself(redis: Redis) -> None:
    board = RedisModelBoard(redis)
    for tell in (
        board.swap(None, DOWN),
        board.count_failure(),
        board.tell_wait("a", ModelWait(ModelFault.LIMITED, 5)),
    ):
        await redis.persist("satmeter:model")
        await tell
        assert 3_600_000 < await redis.pttl("satmeter:model") <= 7_200_000


async def test_a_process_reads_at_most_once_a_second_and_takes_silence_for_a_model_that_is_there() -> None:
    board, clock = FakeBoard(DOWN), Clock()
    cache = ModelCache(board, clock.monotonic_s)
    for _ in range(5):
        assert (await cache.current()).outage == DOWN
    assert board.reads == 1
    cache.outdate()
    assert (await cache.current()).outage == DOWN and board.reads == 2
    board.away, clock.now_s = True, 1.1
    assert await cache.current() == ModelWord()


async def test_what_is_known_counts_for_less_time_where_something_is_sold() -> None:
    board, clock = FakeBoard(DOWN), Clock()
    cache = ModelCache(board, clock.monotonic_s)
    for at_s, reads in ((0.0, 1), (0.1, 1), (0.15, 2), (0.2, 2)):
        clock.now_s = at_s
        await cache.current(ASK_BEFORE_SALES_S)
        assert board.reads == reads
    clock.now_s = 1.0
    await cache.current()
    assert board.reads == 2


async def test_a_store_that_is_away_is_a_transient_failure(redis: Redis) -> None:
    await redis.set("satmeter:model", "not a hash")
    with pytest.raises(TransientError):
        await RedisModelBoard(redis).read()


@pytest.mark.parametrize("stage", list(Stage))
def test_an_outage_does_not_last_for_as_long_as_a_clock_was_set_back(stage: Stage) -> None:
    known = outage(stage, until_ms=START_MS + 10_000)
    for back_ms, left_ms in ((0, 10_000), (5_000, 15_000), (60 * MINUTE_MS, 0)):
        assert known.left_ms(START_MS - back_ms) == left_ms
    word = ModelWord(known)
    assert word.closed(START_MS) and bool(word.closed(START_MS - 60 * MINUTE_MS)) is (stage is Stage.DOWN)


def test_nor_does_a_wait() -> None:
    word = ModelWord(waits={"sonnet": ModelWait(ModelFault.LIMITED, START_MS + 37_000, START_MS)})
    assert word.wait("sonnet", START_MS) and word.wait("sonnet", START_MS - 1_000)
    assert word.wait("sonnet", START_MS - 60 * MINUTE_MS) is None
    former = ModelWord(waits={"sonnet": ModelWait(ModelFault.LIMITED, START_MS + 37_000)})
    assert former.wait("sonnet", START_MS), "as an earlier version noted it"

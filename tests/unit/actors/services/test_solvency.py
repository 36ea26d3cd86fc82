"""The wallet against what is its clients': when deposits are refused, and when they are not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.actors.adapters.redis.solvency import RedisSolvency
from satmeter.actors.ports import Standing, TransientError
from satmeter.actors.services.solvency import SolvencyCache, SolvencyWatch, covers
from tests.helpers.fakes import FakeLightning

OWED_MSAT = 50_000_000


@dataclass
class Board:
    """Implements `SolvencyBoard` with totals that are read one after the other."""

    totals: list[int] = field(default_factory=lambda: [OWED_MSAT])
    standing: Standing | None = None

    async def liability(self) -> tuple[int, int]:
        return (self.totals.pop(0) if len(self.totals) > 1 else self.totals[0]), 0

    async def tell(self, standing: Standing) -> None:
        self.standing = standing

    async def told(self) -> Standing | None:
        return self.standing


@dataclass
class Scene:
    """A watch over a wallet."""

    board: Board = field(default_factory=Board)
    node: FakeLightning = field(default_factory=lambda: FakeLightning(wallet_msat=OWED_MSAT))

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.watch = SolvencyWatch(self.node, self.board, lambda: 7)

    async def looks(self, times: int = 1) -> bool:
        for _ in range(times):
            await self.watch.look()
        assert self.board.standing is not None
        return self.board.standing.solvent


@pytest.mark.parametrize(
    ("wallet_msat", "liability_msat", "enough"),
    [
        (0, 10_000, True),
        (0, 10_001, False),
        (OWED_MSAT - 50_000, OWED_MSAT, True),
        (OWED_MSAT - 50_001, OWED_MSAT, False),
        (OWED_MSAT * 2, OWED_MSAT, True),
    ],
)
def test_a_wallet_may_lack_a_little(wallet_msat: int, liability_msat: int, enough: bool) -> None:
    assert covers(wallet_msat, liability_msat) is enough


async def test_a_wallet_that_is_short_twice_in_a_row_is_told_with_its_figures() -> None:
    scene = Scene()
    assert await scene.looks()
    scene.node.wallet_msat = 20_000_000
    assert await scene.looks()
    with capture_logs() as logs:
        assert not await scene.looks()
        assert not await scene.looks()
    assert scene.board.standing == Standing(False, OWED_MSAT, 20_000_000, 7)
    (log,) = logs
    assert log["log_level"] == "error" and log["missing_msat"] == 30_000_000
    scene.node.wallet_msat = OWED_MSAT
    assert await scene.looks()


async def test_looks_that_are_short_with_a_good_one_between_close_nothing() -> None:
    scene = Scene()
    for _ in range(3):
        scene.node.wallet_msat = 0
        assert await scene.looks()
        scene.node.wallet_msat = OWED_MSAT
        assert await scene.looks()


@pytest.mark.parametrize("totals", [[OWED_MSAT, 2 * OWED_MSAT], [2 * OWED_MSAT, OWED_MSAT]])
async def test_what_moves_while_it_looks_is_not_taken_for_missing(totals: list[int]) -> None:
    """A deposit credited after the wallet was read, or a payout begun before it was."""
    scene = Scene(Board(totals * 2))
    assert await scene.looks(2)


async def test_a_treasury_that_was_restarted_does_not_open_what_was_closed_and_says_why_again() -> None:
    scene = Scene()
    scene.node.wallet_msat = 0
    assert not await scene.looks(2)
    scene.restart()
    with capture_logs() as logs:
        assert not await scene.looks(3)
    assert [log["missing_msat"] for log in logs] == [OWED_MSAT]


async def test_a_node_that_does_not_answer_changes_nothing() -> None:
    scene = Scene()
    scene.node.wallet_msat = 0
    assert not await scene.looks(2)
    told, scene.node.fault = scene.board.standing, TransientError("down")
    with pytest.raises(TransientError):
        await scene.watch.look()
    assert scene.board.standing is told


async def test_the_board_in_the_store_forgets_what_nobody_repeats(redis: Redis) -> None:
    board = RedisSolvency(redis)
    assert await board.told() is None and await board.liability() == (0, 0)
    standing = Standing(False, 5, 3, 1)
    await board.tell(standing)
    assert await board.told() == standing
    assert 0 < await redis.pttl("satmeter:solvency") <= 600_000


async def test_a_front_reads_at_most_once_a_second_and_takes_silence_for_leave() -> None:
    reads, now_s = [0], [0.0]
    standing = Standing(False, 5, 3, 1)

    async def told() -> Standing:
        reads[0] += 1
        if reads[0] > 1:
            raise TransientError("down")
        return standing

    cache = SolvencyCache(told, lambda: now_s[0])
    for _ in range(5):
        assert await cache.current() == standing
    assert reads == [1]
    now_s[0] = 1.1
    assert await cache.current() is None


async def test_a_node_that_is_away_for_long_is_told_once_and_again_after_it_was_back() -> None:
    node, words = FakeLightning(wallet_msat=OWED_MSAT), iter([True, True, False, True, None])

    async def pause(_: float) -> None:
        if (away := next(words)) is None:
            raise asyncio.CancelledError
        node.fault = TransientError("away") if away else None

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await SolvencyWatch(node, Board(), lambda: 7, pause=pause).run()
    assert [entry["event"] for entry in logs] == ["wallet_not_compared", "wallet_not_compared"]

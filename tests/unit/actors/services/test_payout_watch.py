"""Comparison of the wallet's payments with the journals: each payment that no journal tells is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.actors.adapters.redis.findings import RedisFindings
from satmeter.actors.domain.behaviour import BooksError, UnknownEventError
from satmeter.actors.domain.money import MoneyError, Msat
from satmeter.actors.domain.payments.payouts import Payout, PayoutTarget, Refunds, SentPayment
from satmeter.actors.ports import Findings, LongPayout, Refusals, TransientError
from satmeter.actors.services.findings import FindingsCache
from satmeter.actors.services.oversight import Oversight
from satmeter.actors.services.payout_watch import ARCHIVED_AFTER_MS, FORGOTTEN_AFTER_MS, Comparison, PayoutWatch
from tests.helpers.fakes import FakeLightning

NOW_MS = 1_800_000_000_000


def hash_of(number: int) -> str:
    return f"{number:064x}"


def payment(number: int, actor_id: str = "ses_a", *, row: str = "", age_ms: int = 60_000, fee: int = 0) -> SentPayment:
    at_ms = 0 if age_ms < 0 else NOW_MS - age_ms
    return SentPayment(row or f"row{number}", hash_of(number), Msat(900_000), Msat(fee), actor_id, at_ms)


@dataclass
class Wallet(FakeLightning):
    """A node that lists what a test says, the newest first."""

    listed: list[SentPayment] = field(default_factory=list)

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        await self._called("sent")
        return self.listed[offset : offset + limit]


@dataclass
class Scene:
    """A wallet, and the journals of actors."""

    wallet: Wallet = field(default_factory=Wallet)
    journals: dict[str, Refunds] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)
    now_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.watch = PayoutWatch(self.wallet, self.refunds_of, lambda: self.now_ms)

    async def refunds_of(self, actor_id: str) -> Refunds | None:
        self.read.append(actor_id)
        if (fault := self.broken.get(actor_id)) is not None:
            raise fault
        return self.journals.get(actor_id)

    def paid(self, *numbers: int, actor_id: str = "ses_a") -> None:
        """The actor's journal tells these as paid."""
        self.journals[actor_id] = Refunds(ended={hash_of(number): True for number in numbers})

    async def unknown(self) -> tuple[int, int]:
        found = await self.watch.look()
        return found.unknown_count, found.unknown_msat


async def test_what_journals_tell_as_paid_is_known_and_read_once() -> None:
    scene = Scene()
    scene.wallet.listed = [payment(2), payment(1, age_ms=90_000)]
    scene.paid(1, 2)
    assert await scene.watch.look() == Comparison(0, 0, 2, NOW_MS - 90_000)
    assert await scene.watch.look() == Comparison(0, 0, 2, NOW_MS - 90_000)
    assert scene.read == ["ses_a"] * 2


async def test_the_operators_own_payments_count_nowhere_and_end_no_look() -> None:
    scene = Scene()
    scene.wallet.listed = [payment(n, "") for n in range(2, 202)] + [payment(1)]
    scene.paid(1)
    for _ in range(2):
        assert await scene.watch.look() == Comparison(0, 0, 1, NOW_MS - 60_000)
    scene.wallet.listed = [payment(n, "") for n in range(300, 500)] + [payment(299)]
    assert await scene.unknown() == (1, 900_000)


async def test_a_payment_that_its_journal_calls_failed_is_unknown_with_what_it_cost() -> None:
    """The node called it failed, it was re-pointed, and then the node made it."""
    scene = Scene()
    scene.wallet.listed = [payment(2), payment(1, fee=1_300)]
    scene.journals["ses_a"] = Refunds(ended={hash_of(1): False, hash_of(2): True})
    with capture_logs() as logs:
        assert await scene.unknown() == (1, 901_300)
        assert await scene.unknown() == (1, 901_300)
    (told,) = logs
    assert (told["log_level"], told["event"]) == ("error", "payment_unknown_to_journals")
    assert (told["actor_id"], told["payment_hash"], told["amount_msat"]) == ("ses_a", hash_of(1), 900_000)


async def test_a_second_payment_to_the_same_invoice_is_unknown() -> None:
    scene = Scene()
    scene.wallet.listed = [payment(1, row="second"), payment(1, row="first")]
    scene.paid(1)
    assert await scene.unknown() == (1, 900_000)


async def test_a_payout_under_way_is_neither_known_nor_amiss() -> None:
    scene = Scene()
    scene.wallet.listed = [payment(1)]
    target = PayoutTarget("lnbc1", hash_of(1), Msat(900_000))
    scene.journals["ses_a"] = Refunds(under_way=Payout(target, Msat(9_000), NOW_MS, None))
    assert await scene.unknown() == (0, 0)
    # Its journal then says failed, though the node has it: the worst that there is.
    scene.journals["ses_a"] = Refunds(ended={hash_of(1): False})
    assert await scene.unknown() == (1, 900_000)


@pytest.mark.parametrize("fault", [BooksError("x"), MoneyError("x"), UnknownEventError("x")])
async def test_a_journal_that_can_not_be_read_hides_no_other_payment(fault: Exception) -> None:
    scene = Scene()
    scene.wallet.listed = [payment(1, "ses_broken"), payment(2, "ses_stolen"), payment(3)]
    scene.paid(3)
    scene.broken["ses_broken"] = fault
    with capture_logs() as logs:
        assert await scene.unknown() == (2, 1_800_000)
    assert [told["actor_id"] for told in logs] == ["ses_broken", "ses_stolen"]
    del scene.broken["ses_broken"]
    scene.paid(1, actor_id="ses_broken")
    assert await scene.unknown() == (1, 900_000)


async def test_a_payment_that_was_told_as_unknown_stays_so_until_it_is_forgotten() -> None:
    scene = Scene()
    scene.wallet.listed = [payment(1)]
    assert await scene.unknown() == (1, 900_000)
    scene.now_ms += ARCHIVED_AFTER_MS + 1
    assert await scene.unknown() == (1, 900_000)
    scene.now_ms += FORGOTTEN_AFTER_MS
    assert await scene.unknown() == (0, 0)


async def test_payments_of_actors_that_the_store_lost_or_never_had_are_unknown() -> None:
    """A store that lost its last moment, or another deployment that pays from the same wallet."""
    scene = Scene()
    scene.wallet.listed = [payment(1, "ses_gone"), payment(2, "job_gone", age_ms=-1)]
    assert await scene.unknown() == (2, 1_800_000)


async def test_an_actor_that_may_be_archived_is_not_missed_and_a_week_is_the_end() -> None:
    scene = Scene()
    archived = payment(1, "ses_archived", age_ms=ARCHIVED_AFTER_MS + 1)
    recent = payment(2, "ses_lost", age_ms=ARCHIVED_AFTER_MS - 1)
    failed = payment(3, age_ms=ARCHIVED_AFTER_MS + 1)
    old = payment(4, age_ms=FORGOTTEN_AFTER_MS + 1)
    scene.wallet.listed = [recent, archived, failed, old]
    scene.journals["ses_a"] = Refunds(ended={hash_of(3): False, hash_of(4): False})
    assert await scene.unknown() == (2, 1_800_000)
    scene.now_ms += FORGOTTEN_AFTER_MS
    assert await scene.unknown() == (0, 0)


async def test_a_look_is_bounded_and_what_was_unknown_stays_told_when_others_push_it_out() -> None:
    scene = Scene()
    scene.wallet.listed = [payment(0)]
    assert await scene.unknown() == (1, 900_000)
    scene.wallet.listed = [payment(number) for number in range(20_000, 0, -1)] + scene.wallet.listed
    scene.paid(*range(1, 20_001))
    scene.wallet.calls.clear()
    assert await scene.unknown() == (1, 900_000)
    assert scene.wallet.calls.count("sent") == 5
    scene.paid(*range(20_001))
    assert await scene.unknown() == (0, 0)


async def test_after_a_restart_the_past_is_read_again() -> None:
    scene = Scene()
    scene.wallet.listed = [payment(number) for number in range(1_000, 0, -1)]
    scene.paid(*range(2, 1_001))
    assert await scene.unknown() == (1, 900_000)
    scene.__post_init__()
    assert await scene.unknown() == (1, 900_000)


# What is told of it


@dataclass
class Board:
    """Implements `FindingsBoard`."""

    findings: list[Findings] = field(default_factory=list)
    long: list[LongPayout] = field(default_factory=list)

    async def tell(self, findings: Findings) -> None:
        self.findings.append(findings)

    async def told(self) -> tuple[Findings | None, Refusals]:
        return self.findings[-1], Refusals()

    async def refused(self, reason: str) -> None:
        raise AssertionError

    async def lasts(self, payout: LongPayout) -> None:
        raise AssertionError

    async def long_payouts(self) -> list[LongPayout]:
        return self.long


@dataclass
class Watched:
    """Questions of the oversight."""

    scene: Scene = field(default_factory=Scene)
    board: Board = field(default_factory=Board)
    trouble: str | None = None
    losses: dict[str, str] = field(default_factory=dict)
    fault: TransientError | None = None

    def __post_init__(self) -> None:
        self.oversight = Oversight(
            self.scene.watch, self.keys, self.store, self.board, lambda: NOW_MS, allowed=frozenset({"everysec"})
        )

    async def keys(self) -> str | None:
        if self.fault is not None:
            raise self.fault
        return self.trouble

    async def store(self) -> dict[str, str]:
        return self.losses

    async def look(self) -> Findings:
        await self.oversight.look()
        return self.board.findings[-1]


async def test_all_that_was_found_is_told_and_each_change_is_one_line() -> None:
    watched = Watched()
    assert await watched.look() == Findings(NOW_MS)
    watched.scene.wallet.listed = [payment(1)]
    watched.trouble, watched.losses = "two_wallets", {"": "no-file", "b:1": "everysec"}
    with capture_logs() as logs:
        found = [await watched.look() for _ in range(3)][-1]
    assert (found.unknown_payouts, found.unknown_payouts_msat, found.compared_payouts) == (1, 900_000, 1)
    assert (found.key_trouble, found.store_losses) == ("two_wallets", {"": "no-file"})
    assert sorted(log["event"] for log in logs if log["log_level"] == "error") == [
        "payment_unknown_to_journals",
        "store_may_lose_writes",
        "wallet_keys_wrong",
    ]
    watched.trouble, watched.losses = None, {}
    with capture_logs() as logs:
        found = await watched.look()
    assert (found.key_trouble, found.store_losses) == (None, {})
    assert sorted(log["event"] for log in logs) == ["store_keeps_writes_again", "wallet_keys_well_again"]


async def test_a_payout_that_lasts_for_long_is_logged_once_with_its_age_and_shown_until_it_ends() -> None:
    watched = Watched()
    watched.board.long = [LongPayout("ses_a", "ab" * 32, 900_000, 5_000), LongPayout("ses_b", "cd" * 32, 1_000, 3_000)]
    with capture_logs() as logs:
        found = [await watched.look() for _ in range(3)][-1]
    assert (found.long_payouts, found.long_payouts_msat, found.long_payouts_since_ms) == (2, 901_000, 3_000)
    assert [(log["event"], log["actor_id"], log["since"]) for log in logs] == [
        ("payout_pending_for_long", "ses_a", "1970-01-01T00:00:05.000Z"),
        ("payout_pending_for_long", "ses_b", "1970-01-01T00:00:03.000Z"),
    ]
    assert "docs/lightning.md" in logs[0]["hint"] and logs[0]["payment_hash"] == "ab" * 32
    watched.board.long = []
    assert await watched.look() == Findings(NOW_MS)


async def test_what_does_not_answer_stays_as_it_was_and_hides_nothing_else() -> None:
    watched = Watched(trouble="no_admin_key")
    await watched.look()
    watched.fault, watched.losses = TransientError("down"), {"": "no"}
    watched.scene.wallet.fault = TransientError("down")
    found = await watched.look()
    assert (found.key_trouble, found.store_losses) == ("no_admin_key", {"": "no"})


async def test_the_board_in_the_store_counts_refusals_and_forgets_old_findings(any_redis: Redis) -> None:
    board = RedisFindings(any_redis)
    assert await board.told() == (None, Refusals())
    findings = Findings(NOW_MS, 1, 900_000, 5, NOW_MS, "two_wallets", {"": "no"})
    await board.tell(findings)
    for reason in ("key", "funds", "key"):
        await board.refused(reason)
    assert await board.told() == (findings, Refusals({"key": 2, "funds": 1}, "key"))


async def test_a_front_reads_findings_at_most_once_a_second() -> None:
    reads, now_s = [0], [0.0]

    async def told() -> tuple[Findings | None, Refusals]:
        reads[0] += 1
        if reads[0] > 1:
            raise TransientError("down")
        return Findings(NOW_MS), Refusals()

    cache = FindingsCache(told, lambda: now_s[0])
    for _ in range(3):
        assert await cache.current() == (Findings(NOW_MS), Refusals())
    assert reads == [1]
    now_s[0] = 1.1
    assert await cache.current() == (None, Refusals())

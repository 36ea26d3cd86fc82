"""Payouts that are not sent any more, those that stay under way, and the log of the others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import LookUpPayout, SendPayout
from satmeter.actors.domain.payments.payout_flow import PATIENCE_MS
from satmeter.actors.domain.payments.payouts import LONG_MS, PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.effects.payout_calls import PayoutCalls
from satmeter.actors.ports import LongPayout, PermanentError, PortError, TransientError
from tests.helpers.fakes import FakeLightning

TARGET = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))
UNTIL_MS = 1_800_000_030_000


@pytest.mark.parametrize(("woke_ms", "sent"), [(UNTIL_MS - 1, True), (UNTIL_MS, False), (UNTIL_MS + 400_000, False)])
async def test_a_host_that_stood_still_for_too_long_leaves_the_payout_to_those_who_look_it_up(
    woke_ms: int, sent: bool
) -> None:
    """Its successor has perhaps been told already that the node knows of no such payment, and paid another invoice."""
    lightning = FakeLightning(now_ms=lambda: woke_ms)
    calls = PayoutCalls(lightning, asyncio.sleep, lambda: woke_ms)
    sending = calls.send(SendPayout("send_a", TARGET, "ses_a", UNTIL_MS, Msat(2_000)))
    if sent:
        assert (await sending).status is PayoutStatus.PAID
    else:
        with pytest.raises(TransientError):
            await sending
    assert lightning.calls.count("pay_out") == int(sent)
    assert lightning.fee_limits_msat == [2_000] * sent


@dataclass
class Pending:
    """A payout that is looked up, at a node that does not tell its end, until it is broken off."""

    fault: PortError | None = None
    notes: list[LongPayout] = field(default_factory=list)
    store_fault: PortError | None = None

    async def look_up(self, now_ms: int, times: int = 3) -> None:
        async def pause(_: float) -> None:
            nonlocal times
            times -= 1
            if not times:
                raise EndOfTestError

        lightning = FakeLightning(fault=self.fault)
        lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.PENDING)
        calls = PayoutCalls(lightning, pause, lambda: now_ms, None, self.note)
        # A pending payout ends the look-up when half of its patience is over.
        intent = LookUpPayout("look_up_a", TARGET, "ses_a", now_ms + 1_000_000, (), UNTIL_MS)
        with pytest.raises(EndOfTestError):
            await calls.look_up(intent)

    async def note(self, payout: LongPayout) -> None:
        if self.store_fault is not None:
            raise self.store_fault
        self.notes.append(payout)


class EndOfTestError(Exception):
    """The look-up has gone on for long enough."""


@pytest.mark.parametrize("fault", [None, TransientError("down"), PermanentError("it does not tell")])
async def test_a_payout_that_is_under_way_for_a_day_is_noted_with_its_beginning_and_goes_on(
    fault: PortError | None,
) -> None:
    """phoenixd and Alby Hub may show a payment as under way for ever."""
    pending = Pending(fault)
    await pending.look_up(UNTIL_MS + LONG_MS - 1)
    assert pending.notes == []
    await pending.look_up(UNTIL_MS + LONG_MS)
    assert pending.notes == [LongPayout("ses_a", TARGET.payment_hash, 5_000_000, UNTIL_MS)] * 3
    pending.store_fault = TransientError("the store is away")
    await pending.look_up(UNTIL_MS + 2 * LONG_MS)


async def test_money_that_left_is_in_the_log_with_its_session_and_its_route_s_cost() -> None:
    with capture_logs() as logs:
        for report in (PayoutReport(PayoutStatus.PAID, Msat(7)), PayoutReport(PayoutStatus.FAILED)):
            lightning = FakeLightning(now_ms=lambda: 0, payout_script=[report])
            calls = PayoutCalls(lightning, asyncio.sleep, lambda: 0)
            await calls.send(SendPayout("send_a", TARGET, "ses_a", UNTIL_MS, Msat(2_000)))
    paid, failed = logs
    assert (paid["event"], paid["log_level"], paid["fee_msat"]) == ("payout_paid", "info", 7)
    assert (failed["event"], failed["log_level"]) == ("payout_failed", "warning")
    for entry in logs:
        assert (entry["actor_id"], entry["payment_hash"], entry["amount_msat"]) == ("ses_a", "ab" * 32, 5_000_000)


async def test_a_payout_that_is_found_paid_later_is_told_then() -> None:
    lightning = FakeLightning(now_ms=lambda: 0)
    lightning.outgoing["ab" * 32] = PayoutReport(PayoutStatus.PAID, Msat(7))
    calls = PayoutCalls(lightning, asyncio.sleep, lambda: 0)
    with capture_logs() as logs:
        await calls.look_up(LookUpPayout("look_a", TARGET, "ses_a", 0))
    assert [entry["event"] for entry in logs] == ["payout_paid"]


class Clocks:
    """A wall clock that is set at the first pause, and an uptime; both go on by pauses."""

    def __init__(self, set_by_ms: int) -> None:
        self.wall_ms, self.uptime_ms, self.set_by_ms = UNTIL_MS, 0, set_by_ms

    async def pause(self, delay_s: float) -> None:
        self.wall_ms += int(delay_s * 1_000) + self.set_by_ms
        self.uptime_ms += int(delay_s * 1_000)
        self.set_by_ms = 0


@pytest.mark.parametrize("set_by_ms", [0, 3_600_000, -3_600_000])
@pytest.mark.parametrize("status", [PayoutStatus.FAILED, PayoutStatus.ABSENT])
async def test_a_clock_that_is_set_neither_shortens_nor_lengthens_the_patience_with_a_lost_answer(
    status: PayoutStatus, set_by_ms: int
) -> None:
    """LNbits calls a payment failed that its node has just begun: believed too soon, it would be paid twice."""
    clocks, lightning = Clocks(set_by_ms), FakeLightning(now_ms=lambda: 0)
    lightning.outgoing[TARGET.payment_hash] = PayoutReport(status)
    calls = PayoutCalls(lightning, clocks.pause, lambda: clocks.wall_ms, uptime_ms=lambda: clocks.uptime_ms)
    intent = LookUpPayout("look_up_a", TARGET, "ses_a", UNTIL_MS + PATIENCE_MS, (), UNTIL_MS)
    assert (await calls.look_up(intent)).status is status
    assert PATIENCE_MS <= clocks.uptime_ms <= PATIENCE_MS + 60_000


async def test_a_clock_set_back_before_the_look_up_lengthens_it_no_more() -> None:
    clocks, lightning = Clocks(0), FakeLightning(now_ms=lambda: 0)
    calls = PayoutCalls(lightning, clocks.pause, lambda: clocks.wall_ms, uptime_ms=lambda: clocks.uptime_ms)
    intent = LookUpPayout("look_up_a", TARGET, "ses_a", UNTIL_MS + 3_600_000 + PATIENCE_MS, (), UNTIL_MS)
    assert (await calls.look_up(intent)).status is PayoutStatus.ABSENT
    assert PATIENCE_MS <= clocks.uptime_ms <= PATIENCE_MS + 60_000


@pytest.mark.parametrize("left_ms", [-86_400_000, -1, 60_000])
@pytest.mark.parametrize("status", [PayoutStatus.FAILED, PayoutStatus.ABSENT])
async def test_after_a_restart_or_a_move_the_patience_begins_whatever_the_wall_clock_says(
    status: PayoutStatus, left_ms: int
) -> None:
    """The clock may have been set since the journal's time was read from it, and other machines have others."""
    clocks, lightning = Clocks(0), FakeLightning(now_ms=lambda: 0)
    lightning.outgoing[TARGET.payment_hash] = PayoutReport(status)
    calls = PayoutCalls(lightning, clocks.pause, lambda: clocks.wall_ms, uptime_ms=lambda: clocks.uptime_ms)
    assert (await calls.look_up(LookUpPayout("look_up_a", TARGET, "ses_a", UNTIL_MS + left_ms))).status is status
    assert PATIENCE_MS <= clocks.uptime_ms <= PATIENCE_MS + 60_000


@pytest.mark.parametrize(("final_after_ms", "waits_ms"), [(0, 0), (2_000, 0), (PATIENCE_MS, PATIENCE_MS)])
async def test_a_look_up_is_final_at_once_only_right_after_the_call_of_this_process_that_failed(
    final_after_ms: int, waits_ms: int
) -> None:
    """Another host may have had the payout meanwhile: then its patience counts."""
    clocks, lightning = Clocks(0), FakeLightning(payout_script=[PayoutReport(PayoutStatus.FAILED)])
    lightning.now_ms = lambda: clocks.wall_ms
    calls = PayoutCalls(lightning, clocks.pause, lambda: clocks.wall_ms, uptime_ms=lambda: clocks.uptime_ms)
    await calls.send(SendPayout("send_a", TARGET, "ses_a", UNTIL_MS + 1, Msat(2_000)))
    lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.FAILED)
    await calls.look_up(LookUpPayout("look_up_a", TARGET, "ses_a", UNTIL_MS + final_after_ms))
    assert waits_ms <= clocks.uptime_ms <= waits_ms + 60_000 * bool(waits_ms)


async def test_the_time_in_which_the_machine_is_suspended_is_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node on the same machine goes on with its payment only then."""
    clocks, lightning = Clocks(0), FakeLightning(now_ms=lambda: 0)
    lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.FAILED)
    monkeypatch.setattr(time, "monotonic_ns", lambda: clocks.uptime_ms * 1_000_000)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: clocks.uptime_ms * 100 * 1_000_000)
    calls = PayoutCalls(lightning, clocks.pause, lambda: clocks.wall_ms)
    await calls.look_up(LookUpPayout("look_up_a", TARGET, "ses_a", UNTIL_MS + PATIENCE_MS))
    assert clocks.uptime_ms >= PATIENCE_MS

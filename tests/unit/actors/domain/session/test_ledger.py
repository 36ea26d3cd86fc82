"""The ledger of a session: every movement once, in order, in pages."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.llm.answers import Ending, RequestOutcome
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutPaid, PayoutReport, PayoutStatus
from satmeter.actors.domain.session.ledger import entries, entry_count
from satmeter.actors.domain.session.messages import LedgerEntry
from tests.helpers.jobs import START_MS, invoice
from tests.helpers.sessions import DEPOSIT, SessionBench, ask, close, completed, grant, rejected, target


def lived() -> SessionBench:
    """A session in which everything has happened that moves money."""
    bench = SessionBench()
    bench.fund()
    bench.top_up_with(invoice(2, 50))
    bench.send(ask("a", by=grant(spender="cook")))
    bench.now_ms += 1_000
    bench.answer(completed(), "a")
    bench.send(ask("b"))
    bench.fail("request:ask:b")
    bench.send(ask("c"))
    bench.send(close(target(7, 60)))
    bench.answer(rejected(), "c")
    bench.pay(invoice(2, 50))
    bench.finish(f"send_payout:{7:064x}", PayoutReport(PayoutStatus.PAID))
    bench.send(close(target(8, 5), name="d"))
    bench.send(close(target(8, 5), name="e"))
    return bench


def told(entry: LedgerEntry) -> tuple[str, int, int]:
    return entry.kind, entry.amount_msat.value, entry.balance_msat.value


def test_every_movement_is_told_with_the_balance_after_it() -> None:
    bench = lived()
    assert [told(entry) for entry in bench.ledger()] == [
        ("deposit", 100_000, 100_000),
        ("hold", 18_536, 81_464),
        ("debit", 6_860, 81_464),
        ("release", 11_676, 93_140),
        ("hold", 18_536, 74_604),
        ("release", 18_536, 93_140),
        ("hold", 18_536, 74_604),
        ("refund", 74_604, 0),
        ("debit", 3_080, 0),
        ("release", 15_456, 15_456),
        ("refund", 15_456, 0),
        ("deposit", 50_000, 50_000),
        ("refund", 50_000, 0),
        ("debit", 0, 0),
    ]


def test_entries_say_when_for_which_request_by_which_payment_and_for_whom() -> None:
    deposit, hold, debit, release, *_ = lived().ledger()
    assert (deposit.payment_hash, deposit.request_id, deposit.at_ms) == (DEPOSIT.payment_hash, None, START_MS)
    for entry in (hold, debit, release):
        assert (entry.request_id, entry.spender, entry.payment_hash) == ("req_a", "cook", None)
    assert (hold.at_ms, debit.at_ms) == (START_MS, START_MS + 1_000)


def test_a_request_that_cost_nothing_is_told_too_and_a_close_of_nothing_is_not() -> None:
    bench = SessionBench()
    bench.fund()
    bench.send(ask())
    bench.answer(RequestOutcome(Ending.LEFT, None))
    assert [entry.kind for entry in bench.ledger()] == ["deposit", "hold", "debit", "release"]
    empty = SessionBench()
    empty.open()
    empty.send(close())
    assert empty.ledger() == ()


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_from_every_offset_are_stretches_of_the_whole(limit: int) -> None:
    bench = lived()
    whole = bench.ledger()
    assert [entry.seq for entry in whole] == list(range(1, 15))
    for after in range(16):
        assert bench.ledger(after, limit) == whole[after : after + limit]


def test_a_payout_is_told_with_its_reserve_and_what_the_route_cost_of_it() -> None:
    bench = SessionBench()
    bench.fund(100)
    bench.send(close(target(7, 60)))
    assert [entry.kind for entry in bench.ledger()] == ["deposit", "refund"]
    bench.finish(f"send_payout:{7:064x}", PayoutReport(PayoutStatus.PAID, Msat(300)))
    fee = bench.ledger()[-1]
    assert (fee.kind, fee.payment_hash, fee.amount_msat, fee.reserved_msat) == (
        "debit",
        f"{7:064x}",
        Msat(300),
        Msat(2_000),
    )
    assert all(entry.reserved_msat is None for entry in bench.ledger()[:-1])


def test_a_free_route_of_an_older_journal_is_not_told() -> None:
    """Its place in the ledger was not counted when it was written."""
    older = PayoutPaid(1, payment_hash=f"{7:064x}", fee_msat=Msat(0), seq=4)
    assert entries(older) == () and entry_count(older) == 0
    (told,) = entries(replace(older, fee_msat=Msat(20)))
    assert (told.seq, told.amount_msat, told.reserved_msat) == (4, Msat(20), None)


def test_the_ledger_is_the_same_after_any_crash() -> None:
    bench = lived()
    whole = bench.ledger()
    for snapshot_at in range(len(bench.journal) + 1):
        bench.restart(snapshot_at)
    assert bench.ledger() == whole
    assert bench.state.seq == len(whole)


def test_nothing_is_told_of_what_moves_no_money() -> None:
    bench = SessionBench()
    bench.fund()
    before = bench.ledger()
    bench.top_up_with(invoice(2, 50))
    bench.now_ms += 3_601_000
    bench.crash()
    bench.finish(f"look_up:{2:064x}", None)
    assert bench.ledger() == before

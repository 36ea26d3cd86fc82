"""Payouts by themselves: what can be paid out, and how a refund stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import BooksError, Done, Failed
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.money import ZERO, MoneyError, Msat
from satmeter.actors.domain.payments.intents import LookUpPayout, SendPayout
from satmeter.actors.domain.payments.payout_flow import fold, intents, outcome, start, taken_up
from satmeter.actors.domain.payments.payouts import (
    OwingBooks,
    PayoutFailed,
    PayoutPaid,
    PayoutRefusal,
    PayoutReport,
    PayoutStatus,
    Refunds,
    RefundState,
    Route,
    network_of,
    payable,
    payout_refusal,
    refund_view,
)
from satmeter.actors.domain.payments.routing_fees import RoutingFees
from tests.helpers.jobs import FEES
from tests.helpers.sessions import ABSENT_MS, once, target

TO = target(7, 50)
OWING = OwingBooks(owed=Msat(60_000))


def begun() -> tuple[OwingBooks, Refunds]:
    return fold(OWING, Refunds(), start(Refunds(), OWING.owed, TO, FEES, once(), 1_000))


@pytest.mark.parametrize(
    ("payment_request", "network"),
    [
        ("lnbc1p", "bc"),
        ("lnbc10u1p", "bc"),
        ("lntb500n1", "tb"),
        ("lntbs20m1", "tbs"),
        ("lnbcrt9", "bcrt"),
        ("lnxyz1", "xyz"),
        ("bc1q", ""),
        ("", ""),
    ],
)
def test_an_invoice_names_its_network(payment_request: str, network: str) -> None:
    assert network_of(payment_request) == network


def test_what_stands_against_a_payout() -> None:
    payable = Msat(60_000)
    assert payout_refusal(Refunds(), target(7, 58), payable, FEES, "bcrt") is None
    too_large = payout_refusal(Refunds(), target(7, 59), payable, FEES, "bcrt")
    assert too_large is not None and too_large.code is Code.INVALID_REQUEST and too_large.details["maxSats"] == 58
    foreign = payout_refusal(Refunds(), target(7, 1, network="bc"), payable, FEES, "bcrt")
    assert foreign is not None and foreign.code is Code.INVALID_REQUEST and "maxSats" not in foreign.details
    pending = payout_refusal(begun()[1], target(8, 1), payable, FEES, "bcrt")
    assert pending is not None and (pending.code, pending.retry_after_s) == (Code.REFUND_PENDING, 5)
    failed = payout_refusal(Refunds(ended={TO.payment_hash: False}), TO, payable, FEES, "bcrt")
    assert failed is not None and failed.code is Code.WRONG_STATE and failed.details == {"state": "owed"}


def test_amount_and_reserve_are_set_aside_and_end_as_what_became_of_them() -> None:
    books, refunds = begun()
    assert books == OwingBooks(owed=Msat(8_000), pending=Msat(52_000))
    paid, ended = fold(books, refunds, PayoutPaid(2_000, payment_hash=TO.payment_hash, fee_msat=Msat(300)))
    assert paid == OwingBooks(owed=Msat(9_700), refunded=Msat(50_000), spent=Msat(300))
    assert (ended.under_way, ended.ended, ended.last_failed) == (None, {TO.payment_hash: True}, False)
    failed, ended = fold(books, refunds, PayoutFailed(2_000))
    assert failed == OWING
    assert (ended.under_way, ended.ended, ended.last_failed) == (None, {TO.payment_hash: False}, True)


def test_payouts_that_cannot_follow_are_refused() -> None:
    books, refunds = begun()
    with pytest.raises(BooksError):
        fold(books, refunds, start(refunds, books.owed, target(8, 1), FEES, once(), 2_000))
    for event in (PayoutFailed(1), PayoutPaid(1, payment_hash=TO.payment_hash, fee_msat=ZERO)):
        with pytest.raises(BooksError):
            fold(OWING, Refunds(), event)
    with pytest.raises(BooksError):
        fold(OWING, Refunds(ended={TO.payment_hash: True}), start(Refunds(), OWING.owed, TO, FEES, once(), 2_000))
    with pytest.raises(MoneyError):
        fold(OWING, Refunds(), start(Refunds(), OWING.owed, target(8, 59), FEES, once(), 2_000))
    with pytest.raises(MoneyError):
        fold(books, refunds, PayoutPaid(1, payment_hash=TO.payment_hash, fee_msat=Msat(2_001)))


def test_a_refund_is_pending_then_paid_in_part_until_nothing_payable_is_left() -> None:
    books, refunds = begun()
    assert refund_view(OwingBooks(), Refunds(), FEES).state is RefundState.NONE
    assert refund_view(OWING, Refunds(), FEES).state is RefundState.OWED
    pending = refund_view(books, refunds, FEES)
    assert (pending.state, pending.owed_msat, pending.paid_msat) == (RefundState.PENDING, Msat(60_000), ZERO)
    paid = fold(books, refunds, PayoutPaid(1, payment_hash=TO.payment_hash, fee_msat=ZERO))
    seen = refund_view(*paid, FEES)
    assert (seen.state, seen.owed_msat, seen.paid_msat) == (RefundState.PARTLY_PAID, Msat(10_000), Msat(50_000))
    assert (pending.payable_sats, seen.payable_sats) == (0, 8)
    little = OwingBooks(owed=Msat(2_999), refunded=Msat(50_000))
    assert refund_view(little, paid[1], FEES).state is RefundState.PAID
    assert refund_view(OwingBooks(owed=Msat(2_999)), Refunds(), FEES).state is RefundState.OWED
    again = fold(*paid, start(paid[1], paid[0].owed, target(8, 5), FEES, once(), 2))
    assert refund_view(*again, FEES).state is RefundState.PENDING
    failed = refund_view(*fold(*again, PayoutFailed(3)), FEES)
    assert (failed.state, failed.owed_msat, failed.failed) == (RefundState.PARTLY_PAID, Msat(10_000), True)


@given(st.integers(0, 500_000), st.booleans())
def test_what_is_payable_is_accepted_and_a_satoshi_more_is_not(owed: int, whole: bool) -> None:
    """And a payout of it never takes more than is owed, whatever its routing costs."""
    refunds, books = Refunds(whole=whole), OwingBooks(owed=Msat(owed))
    sats = refund_view(books, refunds, FEES).payable_sats
    more = payout_refusal(refunds, target(8, sats + 1), books.owed, FEES, "bcrt")
    assert more is not None and more.details["maxSats"] == sats
    assert not whole or sats == owed // 1_000
    if sats:
        assert payout_refusal(refunds, target(8, sats), books.owed, FEES, "bcrt") is None
        begun = fold(books, refunds, start(refunds, books.owed, target(8, sats), FEES, once(), 1))
        reserve = begun[1].under_way.reserve_msat if begun[1].under_way else ZERO
        after, _ = fold(*begun, PayoutPaid(2, payment_hash=target(8, sats).payment_hash, fee_msat=reserve))
        assert after == OwingBooks(
            owed=Msat(owed) - Msat.from_sats(sats) - reserve, refunded=Msat.from_sats(sats), spent=reserve
        )


def test_the_outcome_of_another_payout_means_nothing() -> None:
    _, refunds = begun()
    other = target(8, 50)
    paid = PayoutReport(PayoutStatus.PAID)
    for command in (
        Done(SendPayout("k", other, "a", 1, ZERO), paid),
        Done(LookUpPayout("k", other, "a", 1), paid),
        Failed(SendPayout("k", other, "a", 1, ZERO), permanent=True),
    ):
        assert outcome(refunds, command, 5_000) is None
    assert outcome(Refunds(), Done(SendPayout("k", TO, "a", 1, ZERO), paid), 5_000) is None


def test_only_the_first_take_up_has_something_to_say() -> None:
    books, refunds = begun()
    assert taken_up(Refunds(), 5_000) is None
    event = taken_up(refunds, 5_000)
    assert event is not None
    _, unclear = fold(books, refunds, event)
    assert taken_up(unclear, 9_000) is None
    assert intents("a", unclear, FEES, ["ee"]) == (
        LookUpPayout(f"look_up_payout:{TO.payment_hash}", TO, "a", 5_000 + ABSENT_MS, ("ee",), 1_000),
    )


def test_the_number_of_deposits_that_the_wallet_must_know_is_bounded() -> None:
    books, refunds = begun()
    event = taken_up(refunds, 5_000)
    assert event is not None
    _, unclear = fold(books, refunds, event)
    deposits = frozenset(f"{number:064x}" for number in range(1_000))
    (intent,) = intents("a", unclear, FEES, deposits)
    assert isinstance(intent, LookUpPayout) and intent.received_hashes == tuple(sorted(deposits)[:256])


rules = st.builds(
    RoutingFees,
    base_msat=st.integers(0, 20_000).map(Msat),
    per_million=st.integers(0, 100_000),
    least_msat=st.integers(0, 20_000).map(Msat),
)
steps = st.tuples(
    st.integers(0, 100), st.booleans(), st.sampled_from(["paid", "failed", "refused"]), st.integers(0, 60_000)
)


@given(st.integers(0, 3_000_000), rules, st.booleans(), st.lists(steps, max_size=8))
def test_nothing_is_lost_or_made_by_payouts_whatever_their_routes_cost(
    owed: int, fees: RoutingFees, whole: bool, taken: list[tuple[int, bool, str, int]]
) -> None:
    """At every instant all is owed, set aside, spent for routes or paid back; beyond a reserve a route is our loss."""
    books, refunds, losses, spent = OwingBooks(owed=Msat(owed)), Refunds(whole=whole), 0, 0

    def adds_up() -> None:
        parts = [part.value for part in (books.owed, books.pending, books.spent, books.refunded)]
        assert sum(parts) == owed and min(parts) >= 0
        assert books.spent.value == spent

    for number, (percent, internal, how, fee) in enumerate(taken):
        most = payable(books.owed, fees, whole=whole or internal).whole_sats
        to = replace(target(number, max(1, most * percent // 100)), internal=internal)
        refusal = payout_refusal(refunds, to, books.owed, fees, "bcrt")
        assert (refusal is None) == bool(most)
        if refusal is not None:
            continue
        books, refunds = fold(books, refunds, start(refunds, books.owed, to, fees, once(), 1))
        adds_up()
        (sending,) = intents("a", refunds, fees, ())
        assert isinstance(sending, SendPayout) and refunds.under_way is not None
        reserve = refunds.under_way.reserve_msat.value
        assert reserve <= sending.fee_limit_msat.value == (0 if internal else fees.reserve(to.amount_msat).value)
        assert whole or reserve == sending.fee_limit_msat.value
        report = PayoutReport(PayoutStatus.PAID, Msat(fee))
        event = outcome(refunds, Done(sending, report), 2) if how == "paid" else PayoutFailed(2)
        if how == "refused":
            event = PayoutFailed(2, refusal=PayoutRefusal.FUNDS)
        assert event is not None
        books, refunds = fold(books, refunds, event)
        if isinstance(event, PayoutPaid):
            spent, losses = spent + min(fee, reserve), losses + max(0, fee - reserve)
            assert event.uncovered_msat.value == max(0, fee - reserve)
            assert refunds.route == Route(to.payment_hash, Msat(reserve), Msat(min(fee, reserve)))
        adds_up()

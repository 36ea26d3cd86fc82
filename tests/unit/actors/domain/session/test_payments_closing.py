"""Closing a session, and paying back what it owes: at most once, whatever the node says or does not say."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import BooksError, Decision, Done, TakeUp
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import LookUpPayout, SendPayout
from satmeter.actors.domain.payments.payouts import (
    PayoutReport,
    PayoutStarted,
    PayoutStatus,
    PayoutTarget,
    RefundState,
    Route,
)
from satmeter.actors.domain.payments.routing_fees import RoutingFees
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.domain.session.messages import SessionView
from satmeter.actors.domain.session.state import SessionState
from tests.helpers.jobs import START_MS, invoice
from tests.helpers.sessions import (
    ABSENT_MS,
    DEPOSIT,
    SESSION_ID,
    SESSION_TERMS,
    SessionBench,
    ask,
    close,
    completed,
    grant,
    refusal_of,
    target,
)

TO = target(7, 90)
SEND, LOOK_UP = f"send_payout:{TO.payment_hash}", f"look_up_payout:{TO.payment_hash}"
PAID, FAILED = PayoutReport(PayoutStatus.PAID, Msat(500)), PayoutReport(PayoutStatus.FAILED)
PENDING, ABSENT = PayoutReport(PayoutStatus.PENDING), PayoutReport(PayoutStatus.ABSENT)


def funded(sats: int = 100) -> SessionBench:
    bench = SessionBench()
    bench.fund(sats)
    return bench


def closing() -> SessionBench:
    """A session with a payout of 90 sat of its 100 about to be sent."""
    bench = funded()
    assert bench.send(close(TO)).wait_for == f"payout:{TO.payment_hash}"
    return bench


def internal(sats: int) -> PayoutTarget:
    return replace(target(sats, sats), internal=True)


def answer_of(decision: Decision) -> SessionView:
    (reply,) = decision.answers.values()
    assert isinstance(reply, SessionView)
    return reply


def test_closing_without_an_invoice_owes_what_was_left_and_can_be_repeated() -> None:
    bench = funded()
    first = bench.send(close()).reply
    assert isinstance(first, SessionView) and first.state is SessionState.CLOSED
    assert (first.refund.state, first.refund.owed_msat) == (RefundState.OWED, Msat(100_000))
    bench.pay(DEPOSIT)
    for again in (bench.send(close()), bench.send(close(name="other"))):
        assert (again.reply, again.events) == (first, ())
    assert refusal_of(bench.send(close(TO, digest="other"))).code is Code.IDEMPOTENCY_CONFLICT
    assert bench.behaviour.due_ms(bench.state) is None


def test_closing_an_unpaid_session_owes_nothing() -> None:
    bench = SessionBench()
    bench.open()
    bench.send(close())
    assert bench.view().refund.state is RefundState.NONE
    assert bench.view().state is SessionState.CLOSED


def test_closing_with_an_invoice_pays_it_and_answers_when_it_is_paid() -> None:
    bench = closing()
    assert bench.money() == (0, 0, 0, 100_000, 0)
    assert bench.view().refund.state is RefundState.PENDING
    assert bench.behaviour.intents(SESSION_ID, bench.state) == (
        SendPayout(SEND, TO, SESSION_ID, send_before_ms=START_MS + 30_000, fee_limit_msat=Msat(2_000)),
    )
    assert bench.behaviour.due_ms(bench.state) == START_MS + 30_000
    view = answer_of(bench.finish(SEND, PAID))
    assert bench.money() == (0, 0, 500, 9_500, 90_000)
    assert (view, view.refund.state, view.refund.payable_sats) == (bench.view(), RefundState.PARTLY_PAID, 7)
    assert bench.behaviour.intents(SESSION_ID, bench.state) == ()
    for again in (bench.send(close(TO)), bench.send(close(TO, name="other"))):
        assert (again.reply, again.events) == (view, ())


def test_the_node_s_own_rule_is_what_is_shown_refused_set_aside_and_allowed() -> None:
    """Here 4 sats and 0.4 %, which phoenixd takes."""
    bench = SessionBench(replace(SESSION_TERMS, routing_fees=RoutingFees(Msat(4_000), 4_000)))
    bench.fund(1_000)
    assert bench.view().refund.payable_sats == 992
    refusal = refusal_of(bench.send(close(target(7, 993))))
    assert refusal.details["maxSats"] == 992 and "4 sats and 0.4 %" in refusal.message
    narrow = refusal_of(bench.send(close(target(7, 992), name="narrow", by=grant(per_request=999_967))))
    assert narrow.code is Code.CAVEAT_VIOLATED and "999968" in narrow.message
    bench.send(close(target(7, 992), name="most", by=grant(per_request=999_968)))
    assert bench.state.refunds.under_way is not None and bench.state.books.owed == Msat(32)
    assert bench.state.refunds.under_way.reserve_msat == Msat(7_968)
    (sending,) = bench.behaviour.intents(SESSION_ID, bench.state)
    assert isinstance(sending, SendPayout) and sending.fee_limit_msat == Msat(7_968)


def test_an_invoice_of_the_node_itself_takes_all_that_is_owed_and_no_reserve() -> None:
    bench = funded()
    more = refusal_of(bench.send(close(internal(101), name="more")))
    assert more.details["maxSats"] == 100 and "reserve" not in more.message
    beyond = refusal_of(bench.send(close(internal(100), name="narrow", by=grant(per_request=99_999))))
    assert beyond.code is Code.CAVEAT_VIOLATED
    to = internal(100)
    assert bench.send(close(to, name="all", by=grant(per_request=100_000))).wait_for
    assert bench.money() == (0, 0, 0, 100_000, 0) and bench.state.books.owed == Msat(0)
    (sending,) = bench.behaviour.intents(SESSION_ID, bench.state)
    assert isinstance(sending, SendPayout) and sending.fee_limit_msat == Msat(0)
    view = answer_of(bench.finish(f"send_payout:{to.payment_hash}", PayoutReport(PayoutStatus.PAID)))
    assert bench.money() == (0, 0, 0, 0, 100_000)
    assert (view.refund.state, view.refund.route) == (RefundState.PAID, Route(to.payment_hash, Msat(0), Msat(0)))


def test_a_fee_for_what_needed_no_route_is_our_loss_and_told() -> None:
    bench, to = funded(), internal(100)
    bench.send(close(to))
    (alarm,) = bench.finish(f"send_payout:{to.payment_hash}", PayoutReport(PayoutStatus.PAID, Msat(7))).alarms
    assert bench.money() == (0, 0, 0, 0, 100_000)
    assert alarm.event == "routing_fee_above_its_limit"
    assert (alarm.fields["fee_msat"], alarm.fields["uncovered_msat"]) == (7, 7)


def test_another_rule_leaves_journals_as_they_are() -> None:
    bench = closing()
    bench.behaviour = SessionBehaviour(replace(SESSION_TERMS, routing_fees=RoutingFees(Msat(50_000))))
    bench.crash()
    assert bench.state.refunds.under_way is not None
    assert bench.state.refunds.under_way.reserve_msat == Msat(2_000)


@pytest.mark.parametrize("fee_msat", [0, 1_999, 2_000, 2_001, 10**9])
def test_routing_is_paid_from_its_reserve_and_beyond_it_is_our_loss(fee_msat: int) -> None:
    bench = closing()
    assert bench.view().refund.route == Route(TO.payment_hash, Msat(2_000))
    decision = bench.finish(SEND, PayoutReport(PayoutStatus.PAID, Msat(fee_msat)))
    fee = min(fee_msat, 2_000)
    assert bench.view().refund.route == Route(TO.payment_hash, Msat(2_000), Msat(fee))
    assert [alarm.fields["uncovered_msat"] for alarm in decision.alarms] == [fee_msat - 2_000] * (fee_msat > 2_000)
    assert bench.money() == (0, 0, fee, 10_000 - fee, 90_000)
    fees = [entry for entry in bench.ledger() if entry.kind == "debit"]
    assert [(entry.amount_msat.value, entry.payment_hash) for entry in fees] == [(fee, TO.payment_hash)]


@pytest.mark.parametrize("said", [FAILED, PENDING, ABSENT, None])
def test_a_call_that_ends_without_the_word_paid_is_looked_up_and_never_sent_again(said: PayoutReport | None) -> None:
    bench = closing()
    decision = bench.fail(SEND) if said is None else bench.finish(SEND, said)
    assert decision.answers == {} and bench.view().refund.state is RefundState.PENDING
    (intent,) = bench.behaviour.intents(SESSION_ID, bench.state)
    # A node that refused the call and knows nothing of it may be believed at once.
    believed_at_ms = START_MS + (0 if said is FAILED else ABSENT_MS)
    assert intent == LookUpPayout(LOOK_UP, TO, SESSION_ID, believed_at_ms, (DEPOSIT.payment_hash,), START_MS)
    assert bench.fail(LOOK_UP).events == ()
    bench.now_ms += 10_000
    bench.finish(LOOK_UP, PENDING)
    (intent,) = bench.behaviour.intents(SESSION_ID, bench.state)
    assert intent == LookUpPayout(
        LOOK_UP, TO, SESSION_ID, START_MS + 10_000 + ABSENT_MS, (DEPOSIT.payment_hash,), START_MS
    )
    bench.crash()
    assert list(bench.running) == [LOOK_UP]
    answer_of(bench.finish(LOOK_UP, PAID))
    assert bench.money() == (0, 0, 500, 9_500, 90_000)


def test_a_payout_that_failed_for_certain_is_owed_again_and_another_invoice_may_be_given() -> None:
    bench = closing()
    bench.finish(SEND, FAILED)
    refund = answer_of(bench.finish(LOOK_UP, FAILED)).refund
    assert (refund.state, refund.failed) == (RefundState.OWED, True)
    assert bench.money() == (0, 0, 0, 100_000, 0)
    assert refusal_of(bench.send(close(TO, name="other"))).code is Code.WRONG_STATE
    assert bench.send(close(target(8, 98), name="other")).wait_for
    bench.finish(f"send_payout:{8:064x}", PayoutReport(PayoutStatus.PAID))
    assert bench.money() == (0, 0, 0, 2_000, 98_000)
    assert (bench.view().refund.state, bench.view().refund.failed) == (RefundState.PAID, False)


def test_what_comes_in_after_a_payout_is_owed_and_can_be_paid_out_too() -> None:
    bench = funded()
    bench.top_up_with(invoice(2, 50))
    bench.send(ask())
    bench.send(close(target(7, 70)))
    bench.finish(f"send_payout:{7:064x}", PayoutReport(PayoutStatus.PAID))
    assert bench.view().refund.state is RefundState.PARTLY_PAID
    bench.answer(completed())
    bench.pay(invoice(2, 50))
    assert bench.money() == (0, 0, 6_860, 150_000 - 6_860 - 70_000, 70_000)
    assert (bench.view().refund.state, bench.view().refund.payable_sats) == (RefundState.PARTLY_PAID, 71)
    assert bench.send(close(target(8, 71), name="second")).wait_for


def refund_of(bench: SessionBench) -> tuple[int, int, RefundState, int]:
    """Return the refund as the holder reads it: owed and paid in msat, its state, and the largest payable invoice."""
    refund = bench.view().refund
    return refund.owed_msat.value, refund.paid_msat.value, refund.state, refund.payable_sats


@pytest.mark.parametrize(
    ("fees_msat", "steps"),
    [
        # Free routes: what is left in the end is the least reserve that a payout needs.
        ((0, 0), [(990, 10_000, 8), (8, 2_000, 0)]),
        ((3_300, 0), [(990, 6_700, 4), (4, 2_700, 0)]),
        ((9_899,), [(990, 101, 0)]),
        # More than its reserve is our loss.
        ((12_000,), [(990, 100, 0)]),
    ],
)
def test_an_unused_deposit_comes_back_but_for_what_its_routes_cost(
    fees_msat: tuple[int, ...], steps: list[tuple[int, int, int]]
) -> None:
    bench, paid = funded(1_000), 0
    assert refund_of(bench) == (0, 0, RefundState.NONE, 990)
    bench.send(close())
    assert refund_of(bench) == (1_000_000, 0, RefundState.OWED, 990)
    for number, (fee_msat, (sats, owed_msat, payable)) in enumerate(zip(fees_msat, steps, strict=True)):
        assert refusal_of(bench.send(close(target(50, sats + 1), name="more"))).details["maxSats"] == sats
        bench.send(close(target(60 + number, sats), name=f"c{number}"))
        assert refund_of(bench)[2:] == (RefundState.PENDING, 0)
        bench.finish(f"send_payout:{60 + number:064x}", PayoutReport(PayoutStatus.PAID, Msat(fee_msat)))
        paid += sats * 1_000
        state = RefundState.PARTLY_PAID if payable else RefundState.PAID
        assert refund_of(bench) == (owed_msat, paid, state, payable)
    assert sum(bench.money()) == 1_000_000


def test_a_part_of_1_500_sats_leaves_a_rest_that_is_told() -> None:
    bench = funded(1_500)
    bench.send(close(target(7, 1_470)))
    bench.finish(f"send_payout:{7:064x}", PayoutReport(PayoutStatus.PAID, Msat(31)))
    assert refund_of(bench) == (29_969, 1_470_000, RefundState.PARTLY_PAID, 27)


def test_while_a_payout_may_succeed_no_other_begins() -> None:
    bench = closing()
    for _ in range(2):
        refusal = refusal_of(bench.send(close(target(8, 5), name="other")))
        assert (refusal.code, refusal.retry_after_s) == (Code.REFUND_PENDING, 5)
        assert bench.send(close(TO, name="other")).wait_for == f"payout:{TO.payment_hash}"
        assert bench.send(close(TO)).wait_for == f"payout:{TO.payment_hash}"
        bench.crash()
    view = bench.send(close(name="other")).reply
    assert isinstance(view, SessionView) and view.refund.state is RefundState.PENDING


@pytest.mark.parametrize("to", [target(8, 5), None])
def test_another_body_under_the_key_of_a_payout_is_a_conflict_during_and_after_it(to: object) -> None:
    bench = closing()
    other = close(target(8, 5) if to else None, digest="other")
    assert refusal_of(bench.send(other)).code is Code.IDEMPOTENCY_CONFLICT
    view = answer_of(bench.finish(SEND, PAID))
    assert refusal_of(bench.send(other)).code is Code.IDEMPOTENCY_CONFLICT
    assert bench.send(close(TO)).reply == view


def test_a_payout_that_was_being_sent_when_its_host_died_is_not_sent_again() -> None:
    bench = closing()
    bench.now_ms += 5_000
    for snapshot_at in (0, 2, 4):
        bench.crash(snapshot_at)
        (intent,) = bench.behaviour.intents(SESSION_ID, bench.state)
        assert intent == LookUpPayout(
            LOOK_UP, TO, SESSION_ID, START_MS + 5_000 + ABSENT_MS, (DEPOSIT.payment_hash,), START_MS
        )
        bench.now_ms += 1_000
    assert bench.send(TakeUp()).events == ()


def test_a_late_word_of_the_call_counts_only_if_it_is_paid() -> None:
    bench = closing()
    sending = bench.running[SEND]
    bench.crash()
    assert bench.send(Done(sending, FAILED)).events == ()
    assert bench.send(Done(sending, PAID)).events
    assert bench.send(Done(sending, PAID)).events == ()
    assert bench.money() == (0, 0, 500, 9_500, 90_000)


def test_an_invoice_that_cannot_be_paid_leaves_the_session_open() -> None:
    bench = funded()
    refusal = refusal_of(bench.send(close(target(8, 99))))
    assert (refusal.code, refusal.details["maxSats"]) == (Code.INVALID_REQUEST, 98)
    refusal = refusal_of(bench.send(close(target(8, 50, network="bc"))))
    assert [field["path"] for field in refusal.details["fields"]] == ["paymentRequest"]
    assert bench.view().state is SessionState.ACTIVE
    assert bench.send(close(target(8, 98))).wait_for


def test_running_requests_settle_after_closing_and_only_what_is_free_can_be_paid_out() -> None:
    bench = funded()
    bench.send(ask())
    held = bench.money()[1]
    assert refusal_of(bench.send(close(target(8, 80)))).details["maxSats"] == (100_000 - held - 2_000) // 1_000
    bench.send(close(target(8, 79)))
    bench.answer(completed())
    assert bench.money() == (0, 0, 6_860, 100_000 - 6_860, 0)
    bench.finish(f"send_payout:{8:064x}", PayoutReport(PayoutStatus.PAID))
    assert bench.money() == (0, 0, 6_860, 100_000 - 6_860 - 79_000, 79_000)


def test_stored_payouts_that_do_not_follow_are_refused() -> None:
    bench = closing()
    started = bench.behaviour.decode_event(bench.journal[-1])
    (paid,) = bench.behaviour.decide(SESSION_ID, bench.state, Done(bench.running[SEND], PAID), 0).events
    evolve = bench.behaviour.evolve
    closed = bench.behaviour.decode_event(bench.journal[-2])
    for wrong in (started, closed, replace(paid, seq=99), replace(paid, balance_msat=Msat(1))):
        with pytest.raises(BooksError):
            evolve(SESSION_ID, bench.state, wrong)
    after = evolve(SESSION_ID, bench.state, paid)
    assert isinstance(started, PayoutStarted)
    for wrong in (paid, replace(started, seq=after.seq)):
        with pytest.raises(BooksError):
            evolve(SESSION_ID, after, wrong)

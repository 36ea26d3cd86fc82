"""A session's beginning, the payments that come in, and its time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import BooksError, Done, Failed, TakeUp, UnknownEventError, Wake
from satmeter.actors.domain.credentials.caveats import Action, Grant
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import IssueInvoice, LookUpInvoice, ReleaseUnpaid
from satmeter.actors.domain.payments.invoices import Settle, Settled, Settlement, SettleOutcome
from satmeter.actors.domain.session.messages import GetLedger, GetSession, OpenSession, SessionCreated
from satmeter.actors.domain.session.state import SessionBooks, SessionState
from tests.helpers.jobs import HOUR_MS, START_MS, JobBench, invoice
from tests.helpers.sessions import (
    DAY_MS,
    DEPOSIT,
    FULL,
    SESSION_ID,
    SessionBench,
    ask,
    close,
    completed,
    grant,
    refusal_of,
    top_up,
)

APPLIED, REPLAYED = Settled(SettleOutcome.APPLIED), Settled(SettleOutcome.REPLAYED)
CREATED = SessionCreated(SESSION_ID, 1, DEPOSIT, START_MS + DAY_MS)


def test_opening_gives_the_deposit_invoice_and_the_same_again_however_often_and_late() -> None:
    bench = SessionBench()
    first = bench.send(OpenSession(100, "client"))
    (order,) = first.intents
    assert isinstance(order, IssueInvoice) and (order.amount_sats, order.actor_id) == (100, SESSION_ID)
    assert bench.send(OpenSession(100, "client")).wait_for == first.wait_for
    assert bench.finish(order.key, DEPOSIT).answers == {first.wait_for: CREATED}
    bench.pay()
    bench.now_ms += HOUR_MS
    bench.pay()
    again = bench.send(OpenSession(100, "client"))
    assert (again.reply, again.events, again.intents) == (replace(CREATED, unpaid=False), (), ())


def test_another_amount_under_the_same_key_is_a_conflict_also_at_the_same_time() -> None:
    bench = SessionBench()
    first, other = bench.send(OpenSession(100, "client")), bench.send(OpenSession(200, "client"))
    assert first.wait_for is not None and other.wait_for is not None and first.wait_for != other.wait_for
    bench.send(Done(first.intents[0], DEPOSIT))
    late = bench.send(Done(other.intents[0], invoice(2, 200)))
    assert late.events == ()
    assert late.answers[other.wait_for] == refusal_of(bench.send(OpenSession(200, "client")))
    assert refusal_of(bench.send(OpenSession(200, "client"))).code is Code.IDEMPOTENCY_CONFLICT
    assert bench.state.deposit_invoice == DEPOSIT


def test_a_second_invoice_for_the_same_opening_is_dropped() -> None:
    bench = SessionBench()
    (order,) = bench.send(OpenSession(100, "client")).intents
    bench.send(Done(order, DEPOSIT))
    late = bench.send(Done(order, invoice(2, 100)))
    assert late.events == () and late.answers == {order.key: CREATED}
    assert refusal_of(bench.pay(invoice(2, 100))).code is Code.NOT_FOUND


def test_a_node_that_is_down_leaves_no_session_behind() -> None:
    bench = SessionBench()
    (order,) = bench.send(OpenSession(100, "client")).intents
    answers = bench.send(Failed(order, permanent=False, retry_after_ms=9_000)).answers
    refusal = answers[order.key]
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.retry_after_s) == (Code.UNAVAILABLE, 9)
    assert bench.session is None


def test_a_session_that_does_not_exist_is_not_found() -> None:
    bench = SessionBench()
    for command in (GetSession(FULL), ask(), close(), top_up(), Settle("aa" * 32, Msat(1)), Wake(), TakeUp()):
        decision = bench.send(command)
        assert refusal_of(decision).code is Code.NOT_FOUND and decision.events == ()


def test_a_deposit_activates_and_is_credited_with_what_arrived_and_once() -> None:
    bench = SessionBench()
    bench.open()
    assert bench.view().state is SessionState.AWAITING_PAYMENT
    assert bench.view().pending_invoices == (DEPOSIT,)
    first = bench.pay(msat=100_001)
    assert first.reply == APPLIED
    assert first.intents == (ReleaseUnpaid("release", "client", SESSION_ID),)
    again = bench.pay(msat=100_001)
    assert (again.reply, again.events, again.intents) == (REPLAYED, (), ())
    assert bench.money() == (100_001, 0, 0, 0, 0)
    assert (bench.view().state, bench.view().pending_invoices) == (SessionState.ACTIVE, ())


def test_somebody_elses_payment_is_refused() -> None:
    bench = SessionBench()
    bench.open()
    decision = bench.send(Settle("ff" * 32, Msat(100_000)))
    assert refusal_of(decision).code is Code.NOT_FOUND and decision.events == ()


def test_each_payment_renews_the_time_of_the_session() -> None:
    bench = SessionBench()
    bench.fund()
    bench.now_ms += 5 * HOUR_MS
    made = invoice(2, 50, bench.now_ms + HOUR_MS)
    bench.top_up_with(made)
    assert bench.view().expires_at_ms == START_MS + DAY_MS
    bench.pay(made)
    assert bench.view().expires_at_ms == bench.now_ms + DAY_MS
    assert bench.money() == (150_000, 0, 0, 0, 0)


def test_the_node_is_asked_about_an_invoice_whose_time_is_over_and_its_word_decides() -> None:
    bench = SessionBench()
    bench.open()
    due_ms = bench.behaviour.due_ms(bench.state)
    assert due_ms == DEPOSIT.expires_at_ms + 1_000
    bench.now_ms = due_ms - 1
    assert bench.send(Wake()).intents == ()
    bench.now_ms = due_ms
    (look_up,) = bench.send(Wake()).intents
    assert isinstance(look_up, LookUpInvoice) and look_up.payment_hash == DEPOSIT.payment_hash
    bench.send(Done(look_up, None))
    assert bench.view().pending_invoices == ()
    assert bench.view().state is SessionState.AWAITING_PAYMENT
    assert bench.behaviour.due_ms(bench.state) == START_MS + DAY_MS
    assert bench.send(Done(look_up, None)).events == ()


def test_a_look_up_that_finds_it_paid_credits_it_and_once() -> None:
    bench = SessionBench()
    bench.open()
    bench.now_ms = DEPOSIT.expires_at_ms + 1_000
    (look_up,) = bench.send(Wake()).intents
    found = Settlement(DEPOSIT.payment_hash, Msat(100_000), SESSION_ID)
    bench.send(Done(look_up, found))
    assert bench.pay().reply == REPLAYED
    assert bench.send(Done(look_up, found)).events == ()
    assert bench.money() == (100_000, 0, 0, 0, 0)


@pytest.mark.parametrize("snapshot_at", [0, 1, 2])
def test_a_lapsed_invoice_that_is_paid_after_all_counts(snapshot_at: int) -> None:
    bench = SessionBench()
    bench.open()
    bench.now_ms = DEPOSIT.expires_at_ms + 1_000
    bench.send(Done(bench.send(Wake()).intents[0], None))
    bench.crash(snapshot_at)
    assert bench.pay().reply == APPLIED
    assert bench.pay().reply == REPLAYED
    assert bench.view().state is SessionState.ACTIVE
    assert bench.money() == (100_000, 0, 0, 0, 0)


@pytest.mark.parametrize("ending", ["closed", "expired"])
@pytest.mark.parametrize("lapsed", [False, True])
def test_a_payment_after_the_end_is_owed_at_once(ending: str, lapsed: bool) -> None:
    bench = SessionBench()
    bench.open()
    if lapsed:
        bench.now_ms = DEPOSIT.expires_at_ms + 1_000
        bench.send(Done(bench.send(Wake()).intents[0], None))
    if ending == "expired":
        bench.now_ms = START_MS + DAY_MS
    bench.send(close() if ending == "closed" else Wake())
    expires_at_ms = bench.view().expires_at_ms
    assert bench.view().pending_invoices == ()
    assert bench.pay().reply == APPLIED
    assert bench.pay().reply == REPLAYED
    assert bench.money() == (0, 0, 0, 100_000, 0)
    assert (bench.view().state, bench.view().expires_at_ms) == (ending, expires_at_ms)
    assert [(entry.kind, entry.balance_msat.value) for entry in bench.ledger()] == [("deposit", 100_000), ("refund", 0)]


def test_a_session_expires_by_itself_and_owes_what_was_left() -> None:
    bench = SessionBench()
    bench.fund()
    assert bench.behaviour.due_ms(bench.state) == START_MS + DAY_MS
    bench.now_ms = START_MS + DAY_MS - 1
    assert bench.send(Wake()).events == ()
    bench.now_ms += 1
    for command in (ask(), top_up()):
        assert refusal_of(bench.send(command)).code is Code.EXPIRED
    bench.send(Wake())
    assert bench.send(Wake()).events == ()
    assert bench.view().state is SessionState.EXPIRED
    assert bench.money() == (0, 0, 0, 100_000, 0)
    assert bench.behaviour.due_ms(bench.state) is None
    for command in (ask(), top_up()):
        assert refusal_of(bench.send(command)).code is Code.EXPIRED


def test_it_is_due_when_something_under_way_may_have_lost_its_host() -> None:
    bench = SessionBench()
    bench.fund()
    bench.send(ask())
    assert bench.behaviour.due_ms(bench.state) == START_MS + 30_000
    bench.answer(completed())
    assert bench.behaviour.due_ms(bench.state) == START_MS + DAY_MS


def test_an_unpaid_session_disappears_by_itself_and_a_paid_one_never() -> None:
    bench = SessionBench()
    bench.open()
    assert bench.behaviour.keep_ms(bench.state, START_MS) == 2 * DAY_MS
    assert bench.behaviour.keep_ms(bench.state, START_MS + 2 * DAY_MS) == DAY_MS
    bench.pay()
    assert bench.behaviour.keep_ms(bench.state, START_MS) is None
    assert bench.behaviour.view(SESSION_ID, bench.state) is None
    assert not bench.behaviour.final(bench.state)


def test_a_credential_of_another_generation_opens_nothing() -> None:
    bench = SessionBench()
    bench.fund()
    other = Grant(generation=2)
    for command in (GetSession(other), GetLedger(0, 9, other), ask(by=other), top_up(by=other), close(by=other)):
        decision = bench.send(command)
        assert refusal_of(decision).code is Code.INVALID_CREDENTIAL and decision.events == ()


def test_a_credential_that_may_not_read_does_not() -> None:
    bench = SessionBench()
    bench.fund()
    for by, caveat in (
        (grant(actions=frozenset({Action.REQUEST, Action.CLOSE})), "actions = close,request"),
        (grant(expires_at_s=START_MS // 1_000), f"expires_at = {START_MS // 1_000}"),
    ):
        for command in (GetSession(by), GetLedger(0, 9, by)):
            refusal = refusal_of(bench.send(command))
            assert (refusal.code, refusal.details) == (Code.CAVEAT_VIOLATED, {"caveat": caveat})


# The journal


def test_a_journal_that_does_not_follow_on_itself_is_refused() -> None:
    bench = SessionBench()
    bench.open()
    opened = bench.behaviour.decode_event(bench.journal[0])
    (deposited,) = bench.behaviour.decide(SESSION_ID, bench.state, Settle(DEPOSIT.payment_hash, Msat(9)), 0).events
    evolve = bench.behaviour.evolve
    for wrong in (
        replace(deposited, seq=2),
        replace(deposited, balance_msat=Msat(8)),
        replace(deposited, payment_hash="ff" * 32),
        replace(deposited, refunded_msat=Msat(9)),
        opened,
    ):
        with pytest.raises(BooksError):
            evolve(SESSION_ID, bench.state, wrong)
    with pytest.raises(BooksError):
        evolve(SESSION_ID, None, deposited)
    after = evolve(SESSION_ID, bench.state, deposited)
    with pytest.raises(BooksError):
        evolve(SESSION_ID, after, replace(deposited, seq=2, balance_msat=Msat(18)))


def test_an_event_that_no_session_knows_is_refused() -> None:
    jobs = JobBench()
    jobs.open()
    with pytest.raises(BooksError):
        SessionBench().behaviour.evolve(SESSION_ID, None, jobs.events[0])
    with pytest.raises(UnknownEventError):
        SessionBench().behaviour.decode_event(b'{"type":"session_teleported","at_ms":1}')
    with pytest.raises(UnknownEventError):
        SessionBench().behaviour.decode_event(jobs.behaviour.encode_event(jobs.events[0]))


def test_books_that_do_not_close_are_refused() -> None:
    with pytest.raises(BooksError):
        SessionBooks(deposited=Msat(2), balance=Msat(1))

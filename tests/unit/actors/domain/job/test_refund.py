"""Refunds of jobs."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import BooksError, Decision, Done, Failed, TakeUp, Wake
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.job.state import JobBooks, JobFailed, JobState, JobView, RefundJob, view
from satmeter.actors.domain.llm.intents import Work
from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.intents import LookUpPayout, SendPayout
from satmeter.actors.domain.payments.invoices import Settled, SettleOutcome
from satmeter.actors.domain.payments.payouts import (
    PayoutPaid,
    PayoutRefusal,
    PayoutReport,
    PayoutStatus,
    PayoutTarget,
    RefundState,
)
from tests.helpers.jobs import (
    EVAL_INVOICE,
    FEES,
    HOUR_MS,
    JOB_ID,
    START_MS,
    WORK_INVOICE,
    JobBench,
    completion,
    verdict,
)
from tests.helpers.sessions import ABSENT_MS, once, refusal_of, target

TO = target(7, 7)
TOPIC = f"payout:{TO.payment_hash}"
# What the wallet must know for its word that it made no payment to count.
DEPOSITS = tuple(sorted([EVAL_INVOICE.payment_hash, WORK_INVOICE.payment_hash]))
PAID, FAILED = PayoutReport(PayoutStatus.PAID, Msat(40)), PayoutReport(PayoutStatus.FAILED)
PENDING, ABSENT = PayoutReport(PayoutStatus.PENDING), PayoutReport(PayoutStatus.ABSENT)
OWING = JobBooks(received=Msat(19_000), spent=Msat(10_000), owed=Msat(9_000))


def refund(to: PayoutTarget = TO, name: str = "key", digest: str = "digest", *, keyed: bool = True) -> RefundJob:
    return RefundJob(to, once(name, digest, keyed=keyed))


def failed_job(*, of_request: bool = True) -> JobBench:
    """A job whose work failed: its 9 sat are owed, and the evaluation's 10 too unless the request was why."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.send(Failed(bench.intent(), permanent=True, of_request=of_request))
    return bench


def owing(bench: JobBench) -> tuple[int, int, RefundState, int]:
    """Return the refund as the client reads it: owed and paid in msat, its state, and the largest payable invoice."""
    shown = view(JOB_ID, bench.state, FEES).refund
    assert shown is not None
    return shown.owed_msat.value, shown.paid_msat.value, shown.state, shown.payable_sats


def paying() -> JobBench:
    bench = failed_job()
    assert bench.send(refund()).wait_for == TOPIC
    return bench


def answer_of(decision: Decision) -> JobView:
    reply = decision.answers[TOPIC]
    assert isinstance(reply, JobView)
    return reply


def crash(bench: JobBench) -> None:
    bench.restart()
    bench.send(TakeUp())


def test_a_request_that_the_model_refuses_owes_the_work_and_keeps_the_evaluation() -> None:
    bench = failed_job()
    assert bench.state.books == OWING and "fee of its evaluation is kept" in str(bench.state.error_message)
    assert owing(bench) == (9_000, 0, RefundState.OWED, 7)


def test_work_that_fails_by_our_fault_owes_the_evaluation_too_and_is_paid_back_whole() -> None:
    bench = failed_job(of_request=False)
    assert bench.state.books == JobBooks(received=Msat(19_000), owed=Msat(19_000))
    assert owing(bench) == (19_000, 0, RefundState.OWED, 19)
    assert refusal_of(bench.send(refund(target(8, 20)))).details["maxSats"] == 19
    bench.send(refund(target(7, 19)))
    sending = bench.intent()
    assert isinstance(sending, SendPayout) and sending.fee_limit_msat == Msat(2_000), "the rule's sum, at our cost"
    assert owing(bench) == (19_000, 0, RefundState.PENDING, 0)
    # Routing is our loss then, whatever it costs; as far as it was allowed to, nobody need know.
    assert bench.finish(PayoutReport(PayoutStatus.PAID, Msat(1_700))).alarms == ()
    paid = bench.events[-1]
    assert isinstance(paid, PayoutPaid) and (paid.fee_msat, paid.uncovered_msat) == (ZERO, Msat(1_700))
    assert bench.state.books == JobBooks(received=Msat(19_000), refunded=Msat(19_000))
    assert owing(bench) == (0, 19_000, RefundState.PAID, 0)
    assert bench.behaviour.done(bench.state)


@pytest.mark.parametrize("step", ["evaluation", "invoice"])
def test_an_evaluation_that_comes_to_nothing_is_paid_back_whole(step: str) -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    if step == "invoice":
        bench.finish(verdict())
    bench.send(Failed(bench.intent(), permanent=True, of_request=step == "evaluation"))
    assert owing(bench) == (10_000, 0, RefundState.OWED, 10)
    bench.send(refund(target(7, 9)))
    assert bench.state.refunds.under_way is not None
    assert bench.state.refunds.under_way.reserve_msat == Msat(1_000)
    bench.finish(PayoutReport(PayoutStatus.PAID, Msat(400)))
    # What is left is less than a satoshi.
    assert owing(bench) == (600, 9_000, RefundState.PAID, 0)


def test_a_job_that_failed_in_an_older_journal_keeps_its_reserve_and_its_evaluation() -> None:
    bench = failed_job(of_request=False)
    *before, failed = bench.events
    behaviour, state = bench.behaviour, None
    assert isinstance(failed, JobFailed)
    older = msgspec.json.encode({"type": "job_failed", "at_ms": failed.at_ms, "message": failed.message})
    for event in (*before, behaviour.decode_event(older)):
        state = behaviour.evolve(JOB_ID, state, event)
    assert state is not None and state.books == OWING
    shown = view(JOB_ID, state, FEES).refund
    assert shown is not None and shown.payable_sats == 7


def test_a_reserve_that_was_not_needed_can_be_asked_for_too() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work(600_000)
    bench.send(Failed(bench.intent(), permanent=True, of_request=True))
    assert owing(bench) == (600_000, 0, RefundState.OWED, 594)
    for number, sats, fee_msat, after in (
        (7, 594, 1_040, (4_960, 594_000, RefundState.PARTLY_PAID, 2)),
        (8, 2, 0, (2_960, 596_000, RefundState.PAID, 0)),
    ):
        assert bench.send(refund(target(number, sats), name=f"k{number}")).wait_for
        bench.finish(PayoutReport(PayoutStatus.PAID, Msat(fee_msat)))
        assert owing(bench) == after


def test_what_a_failed_job_owes_is_paid_and_kept_as_the_answer() -> None:
    bench = paying()
    assert bench.intent() == SendPayout(f"send_{TOPIC}", TO, JOB_ID, START_MS + 30_000, Msat(2_000))
    shown = view(JOB_ID, bench.state, FEES).refund
    assert shown is not None and (shown.state, shown.owed_msat) == (RefundState.PENDING, Msat(9_000))
    decision = bench.finish(PAID)
    seen = answer_of(decision)
    (mark,) = decision.marks
    assert (mark.once, mark.reply, mark.keep_ms) == (once(), seen, 25 * HOUR_MS)
    assert bench.state.books == replace(OWING, spent=Msat(10_040), owed=Msat(1_960), refunded=Msat(7_000))
    assert seen.refund is not None and seen.refund.state is RefundState.PAID
    assert bench.behaviour.due_ms(bench.state) is None


def test_an_answer_without_a_key_is_kept_for_a_while_and_the_invoice_answers_too() -> None:
    bench = failed_job()
    bench.send(refund(keyed=False))
    decision = bench.finish(PAID)
    (mark,) = decision.marks
    assert (mark.reply, mark.keep_ms) == (answer_of(decision), 600_000)
    assert bench.send(refund(name="other")) == Decision(reply=answer_of(decision))


def test_a_job_that_owes_nothing_yet_or_at_all_is_in_the_wrong_state() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    refusal = refusal_of(bench.send(refund()))
    assert (refusal.code, refusal.details) == (Code.WRONG_STATE, {"state": "awaiting_work_payment"})
    bench.pay_work()
    assert refusal_of(bench.send(refund())).code is Code.WRONG_STATE
    rejected = JobBench()
    rejected.open()
    rejected.pay_eval()
    rejected.finish(verdict(accepted=False))
    assert refusal_of(rejected.send(refund())).details == {"state": "rejected"}
    assert refusal_of(JobBench().send(refund())).code is Code.NOT_FOUND


def test_a_complete_job_pays_back_what_was_estimated_too_high() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion())
    assert refusal_of(bench.send(refund(target(8, 4)))).details["maxSats"] == 3
    bench.send(refund(target(8, 3)))
    bench.finish(PayoutReport(PayoutStatus.PAID))
    assert (bench.state.state, bench.state.books.owed) == (JobState.COMPLETE, Msat(2_220))


def test_an_invoice_that_cannot_be_paid_changes_nothing() -> None:
    bench = failed_job()
    for to in (target(8, 8), target(8, 1, network="bc")):
        decision = bench.send(refund(to))
        assert refusal_of(decision).code is Code.INVALID_REQUEST and decision.events == ()


def test_while_a_payout_may_succeed_no_other_begins_and_the_same_one_waits() -> None:
    bench = paying()
    assert bench.send(refund()) == Decision(wait_for=TOPIC)
    assert bench.send(refund(name="other")) == Decision(wait_for=TOPIC)
    assert refusal_of(bench.send(refund(target(8, 1), digest="other"))).code is Code.IDEMPOTENCY_CONFLICT
    assert refusal_of(bench.send(refund(target(8, 1), name="other"))).code is Code.REFUND_PENDING


@pytest.mark.parametrize("said", [FAILED, PENDING, ABSENT, None])
def test_a_call_without_the_word_paid_is_looked_up_and_never_sent_again(said: PayoutReport | None) -> None:
    bench = paying()
    sending = bench.intent()
    bench.send(Failed(sending, permanent=False) if said is None else Done(sending, said))
    believed_at_ms = START_MS + (0 if said is FAILED else ABSENT_MS)
    assert bench.intent() == LookUpPayout(f"look_up_{TOPIC}", TO, JOB_ID, believed_at_ms, DEPOSITS, START_MS)
    bench.now_ms += 10_000
    bench.finish(PENDING)
    crash(bench)
    assert bench.intent() == LookUpPayout(
        f"look_up_{TOPIC}", TO, JOB_ID, START_MS + 10_000 + ABSENT_MS, DEPOSITS, START_MS
    )
    assert bench.send(Done(sending, FAILED)).events == ()
    answer_of(bench.finish(PAID))
    assert bench.send(Done(sending, PAID)).events == ()
    assert bench.state.books.refunded == Msat(7_000)


def test_a_payout_that_was_being_sent_when_its_host_died_is_not_sent_again() -> None:
    bench = paying()
    assert bench.behaviour.due_ms(bench.state) == START_MS
    bench.now_ms += 5_000
    crash(bench)
    crash(bench)
    assert bench.intent() == LookUpPayout(
        f"look_up_{TOPIC}", TO, JOB_ID, START_MS + 5_000 + ABSENT_MS, DEPOSITS, START_MS
    )


def test_a_payout_that_failed_for_certain_is_owed_again_and_another_invoice_may_be_given() -> None:
    bench = paying()
    bench.finish(FAILED)
    shown = answer_of(bench.finish(FAILED)).refund
    assert shown is not None and (shown.state, shown.failed) == (RefundState.OWED, True)
    assert bench.state.books == OWING
    assert refusal_of(bench.send(refund(name="other"))).code is Code.WRONG_STATE
    assert bench.send(refund(target(8, 5), name="other")).wait_for


@pytest.mark.parametrize("reason", [PayoutRefusal.FUNDS, PayoutRefusal.RULES])
def test_a_node_that_would_pay_nothing_leaves_the_invoice_to_be_sent_again(reason: PayoutRefusal) -> None:
    bench = paying()
    bench.finish(PayoutReport(PayoutStatus.FAILED, refusal=reason))
    assert bench.intent() == LookUpPayout(f"look_up_{TOPIC}", TO, JOB_ID, START_MS, DEPOSITS, START_MS)
    crash(bench)
    shown = answer_of(bench.finish(ABSENT)).refund
    assert shown is not None and (shown.state, shown.failed, shown.refusal) == (RefundState.OWED, True, reason)
    assert bench.state.books == OWING and bench.state.refunds.ended == {}
    assert bench.send(refund(name="again")).wait_for == TOPIC
    shown = answer_of(bench.finish(PAID)).refund
    assert shown is not None and (shown.failed, shown.refusal, shown.paid_msat) == (False, None, Msat(7_000))


def test_a_refusal_that_the_node_lists_as_a_failed_payment_is_one_all_the_same() -> None:
    """phoenixd and LND put an order into their books before they find that there is no money for it."""
    bench = paying()
    bench.finish(PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.FUNDS))
    shown = answer_of(bench.finish(FAILED)).refund
    assert shown is not None and (shown.failed, shown.refusal) == (True, PayoutRefusal.FUNDS)
    assert bench.send(refund(name="again")).wait_for == TOPIC
    # The list still has the first order. It says nothing about the second one while that may still come.
    bench.send(Failed(bench.intent(), permanent=False))
    assert bench.intent() == LookUpPayout(f"look_up_{TOPIC}", TO, JOB_ID, START_MS + ABSENT_MS, DEPOSITS, START_MS)


def test_a_key_that_the_node_refuses_ends_the_payout_at_once() -> None:
    """No look-up could follow with such a key, and the order was not read."""
    bench = paying()
    shown = answer_of(bench.finish(PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY))).refund
    assert shown is not None and (shown.state, shown.refusal) == (RefundState.OWED, PayoutRefusal.KEY)
    assert bench.send(refund(name="again")).wait_for == TOPIC


def test_work_that_is_paid_for_late_begins_when_the_payout_under_way_has_ended() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval(20_000)
    bench.finish(verdict())
    bench.finish(WORK_INVOICE)
    bench.now_ms = START_MS + HOUR_MS + 1_000
    (look_up,) = bench.send(Wake()).intents
    bench.send(Done(look_up, None))
    assert (bench.state.state, bench.state.books.owed) == (JobState.EXPIRED, Msat(10_000))
    bench.send(refund())
    assert bench.pay_work().reply == Settled(SettleOutcome.APPLIED)
    assert isinstance(bench.intent(), SendPayout)
    crash(bench)
    bench.finish(PAID)
    assert isinstance(bench.intent(), Work)
    bench.finish(completion())
    books = bench.state.books
    assert books.received == Msat(29_000) and books.refunded == Msat(7_000)


def test_a_stored_payout_that_cannot_follow_is_refused() -> None:
    bench = paying()
    started = bench.events[-1]
    with pytest.raises(BooksError):
        bench.behaviour.evolve(JOB_ID, bench.state, started)
    (paid,) = bench.behaviour.decide(JOB_ID, bench.state, Done(bench.intent(), PAID), START_MS).events
    after = bench.behaviour.evolve(JOB_ID, bench.state, paid)
    for event in (started, paid):
        with pytest.raises(BooksError):
            bench.behaviour.evolve(JOB_ID, after, event)
    assert bench.behaviour.decode_state(bench.behaviour.encode_state(after)) == after


def test_the_wallet_must_know_all_deposits_of_a_job() -> None:
    bench = paying()
    bench.finish(PENDING)
    intent = bench.intent()
    assert isinstance(intent, LookUpPayout) and intent.received_hashes == DEPOSITS

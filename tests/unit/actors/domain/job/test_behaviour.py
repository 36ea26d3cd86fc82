from __future__ import annotations

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import BooksError, Done, Failed, TakeUp, UnknownEventError, Wake
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.job.state import CreateJob, EvalPaid, GetJob, JobBooks, JobState, JobView
from satmeter.actors.domain.llm.intents import Evaluate, Work
from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.intents import IssueInvoice, LookUpInvoice
from satmeter.actors.domain.payments.invoices import Settle, Settled, Settlement, SettleOutcome
from satmeter.actors.domain.payments.payouts import RefundState
from satmeter.actors.domain.pricing import Usage
from tests.helpers.jobs import (
    EVAL_INVOICE,
    HOUR_MS,
    JOB_ID,
    START_MS,
    USAGE,
    WORK_INVOICE,
    JobBench,
    completion,
    invoice,
    verdict,
)


def refusal_of(reply: object) -> Refusal:
    assert isinstance(reply, Refusal)
    return reply


def view_of(bench: JobBench) -> JobView:
    reply = bench.send(GetJob()).reply
    assert isinstance(reply, JobView)
    return reply


def test_a_paid_job_goes_through_all_states_to_its_result() -> None:
    bench = JobBench()
    bench.open()
    assert bench.state.state is JobState.AWAITING_EVAL_PAYMENT
    bench.pay_eval()
    assert bench.state.state is JobState.EVALUATING
    assert isinstance(bench.intent(), Evaluate)
    bench.finish(verdict())
    order = bench.intent()
    assert isinstance(order, IssueInvoice)
    # (300 tokens at $2 + 500 at $10 per million + $0.0005) x 1.4 at $100,000 for a bitcoin = 8.54 sat, rounded up.
    assert order.amount_sats == 9
    bench.finish(WORK_INVOICE)
    assert bench.state.state is JobState.AWAITING_WORK_PAYMENT
    bench.pay_work()
    assert bench.state.state is JobState.EXECUTING
    assert isinstance(bench.intent(), Work)
    bench.finish(completion())
    assert bench.state.state is JobState.COMPLETE
    assert bench.state.result == "the answer"
    assert bench.behaviour.intents(JOB_ID, bench.state) == ()
    assert bench.behaviour.due_ms(bench.state) is None


def test_the_actual_cost_is_charged_and_what_was_estimated_too_high_is_owed() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion(Usage(input_tokens=100, output_tokens=200)))
    ledger = bench.state.ledger
    assert ledger is not None
    # (100 x $2 + 200 x $10) / 1e6 + $0.0005 = $0.0027; x 1.4 = $0.00378; at $100,000 = 3,780 msat.
    assert ledger.charged_msat == Msat(3_780)
    assert ledger.refund_msat == Msat(5_220)
    assert bench.state.books == JobBooks(received=Msat(19_000), spent=Msat(13_780), owed=Msat(5_220))
    refund = view_of(bench).refund
    assert refund is not None
    assert (refund.owed_msat, refund.paid_msat, refund.state) == (Msat(5_220), ZERO, RefundState.OWED)


def test_an_estimate_that_was_too_low_is_our_loss() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion(Usage(input_tokens=100_000, output_tokens=100_000)))
    assert bench.state.ledger is not None
    assert bench.state.ledger.charged_msat == Msat(9_000)
    assert bench.state.ledger.refund_msat == ZERO
    assert view_of(bench).refund is None


def test_less_than_a_satoshi_too_much_is_shown_but_not_owed() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion(Usage(input_tokens=300, output_tokens=500)))
    assert bench.state.ledger is not None
    assert bench.state.ledger.refund_msat == Msat(460)
    assert bench.state.books.owed == ZERO
    assert view_of(bench).refund is None


def test_unreadable_usage_costs_the_estimate_and_not_zero() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion(None))
    assert bench.state.ledger is not None
    assert bench.state.ledger.charged_msat == Msat(8_540)


def test_a_rejected_job_keeps_the_evaluation_fee_and_says_why() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.finish(verdict(accepted=False))
    assert bench.state.state is JobState.REJECTED
    assert view_of(bench).reason == "because"
    assert bench.state.books == JobBooks(received=Msat(10_000), spent=Msat(10_000))


def test_a_payment_hash_is_credited_once() -> None:
    bench = JobBench()
    bench.open()
    assert bench.pay_eval().reply == Settled(SettleOutcome.APPLIED)
    again = bench.pay_eval()
    assert again.reply == Settled(SettleOutcome.REPLAYED)
    assert again.events == ()
    assert bench.state.books.received == Msat(10_000)


def test_a_foreign_payment_hash_is_refused() -> None:
    bench = JobBench()
    bench.open()
    reply = bench.send(Settle("ff" * 32, Msat(10_000))).reply
    assert refusal_of(reply).code is Code.NOT_FOUND
    assert bench.state.books.received == ZERO


def test_the_node_is_asked_before_an_invoice_expires_and_its_word_decides() -> None:
    bench = JobBench()
    bench.open()
    due_ms = bench.behaviour.due_ms(bench.state)
    assert due_ms is not None and due_ms > EVAL_INVOICE.expires_at_ms
    bench.now_ms = due_ms
    (look_up,) = bench.send(Wake()).intents
    assert isinstance(look_up, LookUpInvoice) and look_up.payment_hash == EVAL_INVOICE.payment_hash
    assert bench.state.state is JobState.AWAITING_EVAL_PAYMENT
    bench.send(Done(look_up, None))
    assert bench.state.state is JobState.EXPIRED


def test_an_invoice_that_turns_out_paid_at_its_expiry_moves_the_job_on() -> None:
    bench = JobBench()
    bench.open()
    bench.now_ms = START_MS + HOUR_MS + 1_000
    (look_up,) = bench.send(Wake()).intents
    bench.send(Done(look_up, Settlement(EVAL_INVOICE.payment_hash, Msat(10_000), JOB_ID)))
    assert bench.state.state is JobState.EVALUATING


@pytest.mark.parametrize("work", [False, True])
def test_a_payment_after_expiry_is_honoured(work: bool) -> None:
    bench = JobBench()
    bench.to_work_invoice() if work else bench.open()
    bench.now_ms = START_MS + HOUR_MS + 1_000
    (look_up,) = bench.send(Wake()).intents
    bench.send(Done(look_up, None))
    assert bench.state.state is JobState.EXPIRED
    bench.pay_work() if work else bench.pay_eval()
    assert bench.state.state is (JobState.EXECUTING if work else JobState.EVALUATING)


def test_a_transient_failure_is_retried_after_growing_pauses_and_then_fails_with_the_fee_owed() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    pauses = []
    for _ in range(2):
        bench.send(Failed(bench.intent(), permanent=False))
        assert bench.behaviour.intents(JOB_ID, bench.state) == ()
        due_ms = bench.behaviour.due_ms(bench.state)
        assert due_ms is not None
        pauses.append(due_ms - bench.now_ms)
        assert bench.send(Wake()).events == ()
        bench.now_ms = due_ms
        bench.send(Wake())
    assert pauses == [1_000, 2_000]
    bench.send(Failed(bench.intent(), permanent=False))
    assert bench.state.state is JobState.FAILED
    assert bench.state.error_message
    assert bench.state.books == JobBooks(received=Msat(19_000), owed=Msat(19_000))


def test_the_provider_may_ask_for_a_longer_pause() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.send(Failed(bench.intent(), permanent=False, retry_after_ms=20_000))
    assert bench.behaviour.due_ms(bench.state) == START_MS + 20_000


def test_a_failed_evaluation_owes_its_fee() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.send(Failed(bench.intent(), permanent=True))
    assert bench.state.state is JobState.FAILED
    assert bench.state.books == JobBooks(received=Msat(10_000), owed=Msat(10_000))


def test_a_node_that_makes_no_work_invoice_is_asked_for_longer_than_a_model() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.finish(verdict())
    for _ in range(9):
        bench.send(Failed(bench.intent(), permanent=False))
        bench.now_ms += 30_000
        bench.send(Wake())
    assert bench.state.state is JobState.EVALUATING
    bench.send(Failed(bench.intent(), permanent=False))
    assert bench.state.state is JobState.FAILED
    assert bench.state.books.owed == Msat(10_000)


def test_an_attempt_that_died_with_its_host_is_made_again_a_bounded_number_of_times() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    keys = [bench.intent().key]
    for _ in range(2):
        bench.restart()
        bench.send(TakeUp())
        keys.append(bench.intent().key)
    assert keys == ["evaluate#1", "evaluate#2", "evaluate#3"]
    bench.send(TakeUp())
    assert bench.state.state is JobState.FAILED
    assert bench.state.books.owed == Msat(10_000)


def test_the_outcome_of_an_attempt_that_was_given_up_changes_nothing() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    lost = bench.intent()
    bench.send(TakeUp())
    assert bench.send(Done(lost, completion())).events == ()
    bench.finish(completion())
    assert bench.send(Done(lost, completion())).events == ()
    assert bench.state.ledger is not None and bench.state.ledger.charged_msat == Msat(3_780)


def test_taking_up_a_job_that_waits_for_money_changes_nothing() -> None:
    bench = JobBench()
    bench.open()
    assert bench.send(TakeUp()).events == ()


def test_creating_again_with_the_same_request_gives_the_same_job_and_another_request_is_a_conflict() -> None:
    bench = JobBench()
    bench.open("say hello")
    bench.pay_eval()
    again = bench.send(CreateJob("say hello", "client"))
    assert again.intents == () and again.events == ()
    assert isinstance(again.reply, JobView) and again.reply.eval_invoice == EVAL_INVOICE
    assert refusal_of(bench.send(CreateJob("say goodbye", "client")).reply).code is Code.IDEMPOTENCY_CONFLICT


def test_two_bodies_under_one_key_at_the_same_time_do_not_share_an_answer() -> None:
    bench = JobBench()
    first = bench.send(CreateJob("one", "client"))
    second = bench.send(CreateJob("two", "client"))
    assert first.wait_for != second.wait_for
    bench.send(Done(first.intents[0], EVAL_INVOICE))
    answers = bench.send(Done(second.intents[0], invoice(3, 10))).answers
    assert second.wait_for is not None
    assert refusal_of(answers[second.wait_for]).code is Code.IDEMPOTENCY_CONFLICT
    assert bench.state.request == "one"


def test_a_node_that_is_down_leaves_no_job_behind() -> None:
    bench = JobBench()
    decision = bench.send(CreateJob("one", "client"))
    assert decision.wait_for is not None
    for retry_after_ms, retry_after_s in ((0, 2), (7_001, 8)):
        failed = bench.send(Failed(decision.intents[0], permanent=False, retry_after_ms=retry_after_ms))
        refusal = refusal_of(failed.answers[decision.wait_for])
        assert (refusal.code, refusal.retry_after_s) == (Code.UNAVAILABLE, retry_after_s)
    assert bench.job is None


def test_a_job_that_does_not_exist_is_not_found() -> None:
    bench = JobBench()
    assert refusal_of(bench.send(GetJob()).reply).code is Code.NOT_FOUND
    assert refusal_of(bench.send(Settle("aa" * 32, Msat(1))).reply).code is Code.NOT_FOUND


def test_what_a_wallet_pays_on_top_of_the_evaluation_fee_is_owed() -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval(15_000)
    bench.finish(verdict(accepted=False))
    assert bench.state.books == JobBooks(received=Msat(15_000), spent=Msat(10_000), owed=Msat(5_000))


def test_books_that_do_not_close_are_refused() -> None:
    with pytest.raises(BooksError):
        JobBooks(received=Msat(2), held=Msat(1))
    bench = JobBench()
    bench.open()
    with pytest.raises(BooksError):
        bench.behaviour.evolve(JOB_ID, bench.state, EvalPaid(START_MS, "ff" * 32, Msat(10_000)))
    with pytest.raises(BooksError):
        bench.behaviour.evolve(JOB_ID, None, EvalPaid(START_MS, "ff" * 32, Msat(10_000)))


def test_state_and_events_survive_their_bytes() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion(replace(USAGE, cache_read_tokens=7)))
    before = bench.state
    bench.restart()
    assert bench.state == before
    assert bench.behaviour.decode_state(bench.behaviour.encode_state(before)) == before


def test_an_event_of_a_newer_version_is_not_guessed_at() -> None:
    bench = JobBench()
    with pytest.raises(UnknownEventError):
        bench.behaviour.decode_event(b'{"type":"job_teleported","at_ms":1}')

"""Jobs whose model is away: they wait as long as what was paid for lives, and no attempt is used up by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Failed, TakeUp, Wake
from satmeter.actors.domain.job.state import GetJob, JobState, JobView
from satmeter.actors.domain.llm.intents import Evaluate, Work
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import IssueInvoice
from satmeter.actors.domain.provider_faults import ModelFault
from tests.helpers.jobs import (
    EVAL_INVOICE,
    HOUR_MS,
    JOB_ID,
    JOB_TERMS,
    START_MS,
    WORK_INVOICE,
    JobBench,
    completion,
    verdict,
)

OUTAGES = [
    ModelFault.UNREACHABLE,
    ModelFault.UNAVAILABLE,
    ModelFault.OVERLOADED,
    ModelFault.LIMITED,
    ModelFault.REFUSED,
]


def evaluating(at_ms: int = START_MS) -> JobBench:
    """A job whose evaluation was paid at that time."""
    bench = JobBench()
    bench.open()
    bench.now_ms = at_ms
    bench.pay_eval()
    return bench


def executing() -> JobBench:
    """A job whose work was paid for."""
    bench = JobBench()
    bench.to_work_invoice()
    bench.pay_work()
    return bench


def fail(bench: JobBench, fault: ModelFault | None, retry_after_ms: int = 0) -> None:
    """Let the attempt under way fail."""
    bench.send(Failed(bench.intent(), permanent=False, retry_after_ms=retry_after_ms, fault=fault))


def wait(bench: JobBench) -> int:
    """Lets the time pass until the job wants to be woken, and wakes it; returns the milliseconds."""
    due_ms = bench.behaviour.due_ms(bench.state)
    assert due_ms is not None
    waited_ms, bench.now_ms = due_ms - bench.now_ms, due_ms
    bench.send(Wake())
    return waited_ms


def view_of(bench: JobBench) -> JobView:
    reply = bench.send(GetJob()).reply
    assert isinstance(reply, JobView)
    return reply


@pytest.mark.parametrize("fault", OUTAGES)
@pytest.mark.parametrize(
    ("make", "state", "kind"), [(evaluating, JobState.EVALUATING, Evaluate), (executing, JobState.EXECUTING, Work)]
)
def test_a_paid_job_waits_and_goes_on_with_all_its_attempts(
    make: Callable[[], JobBench], state: JobState, kind: type, fault: ModelFault
) -> None:
    bench = make()
    pauses_ms = []
    while bench.now_ms < START_MS + HOUR_MS - 60_000:
        fail(bench, fault)
        assert bench.behaviour.intents(JOB_ID, bench.state) == ()
        pauses_ms.append(wait(bench))
        assert (bench.state.state, type(bench.intent())) == (state, kind)
    assert pauses_ms[:6] == [1_000, 2_000, 4_000, 8_000, 15_000, 15_000] and len(pauses_ms) > 200
    # The model is back, and only now attempts count: this job has three.
    for _ in range(2):
        fail(bench, None)
        wait(bench)
    bench.finish(verdict() if kind is Evaluate else completion())
    assert bench.state.state in (JobState.EVALUATING, JobState.COMPLETE) and bench.state.error_message is None


def test_an_evaluation_waits_as_long_as_work_does_though_its_invoice_lives_shorter() -> None:
    bench = JobBench(replace(JOB_TERMS, eval_expiry_s=420))
    bench.open()
    bench.pay_eval()
    invoice = bench.state.eval_invoice
    patience_ms = (JOB_TERMS.invoice_expiry_s - 420) * 1_000
    while bench.now_ms < invoice.expires_at_ms + patience_ms - 60_000:
        fail(bench, ModelFault.UNREACHABLE)
        wait(bench)
        assert bench.state.state is JobState.EVALUATING
    bench.now_ms = invoice.expires_at_ms + patience_ms
    fail(bench, ModelFault.UNREACHABLE)
    assert bench.state.state is JobState.FAILED


def test_a_wait_that_the_provider_asks_for_is_waited() -> None:
    bench = evaluating()
    fail(bench, ModelFault.LIMITED, 37_500)
    assert wait(bench) == 37_500
    assert bench.state.step is not None and bench.state.step.attempt == 1


@pytest.mark.parametrize(
    ("make", "owed_msat", "told"), [(evaluating, 10_000, "evaluation fee"), (executing, 9_000, "paid for it")]
)
def test_an_outage_that_outlives_the_invoice_fails_the_job_and_what_was_paid_is_owed(
    make: Callable[[], JobBench], owed_msat: int, told: str
) -> None:
    bench = make()
    while bench.state.state is not JobState.FAILED:
        fail(bench, ModelFault.UNREACHABLE)
        if bench.state.state is not JobState.FAILED:
            wait(bench)
    assert bench.now_ms == START_MS + HOUR_MS, "it failed before the end, or after it"
    assert bench.state.books.owed >= Msat(owed_msat)
    assert told in (bench.state.error_message or "") and "away" in (bench.state.error_message or "")


def test_who_pays_in_the_last_moment_has_half_a_minute() -> None:
    paid_ms = START_MS + HOUR_MS - 1_000
    bench = evaluating(paid_ms)
    while bench.state.state is JobState.EVALUATING:
        fail(bench, ModelFault.UNREACHABLE)
        if bench.state.state is JobState.EVALUATING:
            wait(bench)
    assert (bench.state.state, bench.now_ms) == (JobState.FAILED, paid_ms + 30_000)


def test_the_work_is_not_offered_while_the_model_is_away() -> None:
    bench = evaluating()
    bench.finish(verdict())
    order = bench.intent()
    assert isinstance(order, IssueInvoice) and order.for_work
    for _ in range(20):
        fail(bench, ModelFault.UNAVAILABLE)
        wait(bench)
    assert (bench.state.state, view_of(bench).waits_for_model) == (JobState.EVALUATING, True)
    bench.finish(WORK_INVOICE)
    assert (bench.state.state, view_of(bench).waits_for_model) == (JobState.AWAITING_WORK_PAYMENT, False)


@pytest.mark.parametrize("fault", [None, ModelFault.FAILING])
def test_what_the_provider_has_taken_up_uses_an_attempt(fault: ModelFault | None) -> None:
    bench = executing()
    for _ in range(2):
        fail(bench, ModelFault.OVERLOADED)
        wait(bench)
        fail(bench, fault)
        wait(bench)
    fail(bench, ModelFault.OVERLOADED)
    wait(bench)
    assert bench.state.state is JobState.EXECUTING
    fail(bench, fault)
    assert bench.state.state is JobState.FAILED


def test_a_refusal_for_good_is_no_outage() -> None:
    bench = executing()
    bench.send(Failed(bench.intent(), permanent=True, fault=ModelFault.REFUSED))
    assert bench.state.state is JobState.FAILED


def test_the_wait_goes_on_after_a_restart_and_a_lost_attempt_counts() -> None:
    bench = evaluating()
    fail(bench, ModelFault.UNREACHABLE, 20_000)
    bench.restart()
    assert bench.send(TakeUp()).events == ()
    assert bench.behaviour.due_ms(bench.state) == START_MS + 20_000
    wait(bench)
    assert bench.state.step is not None and (bench.state.step.attempt, bench.state.step.put_offs) == (1, 1)
    bench.restart()
    bench.send(TakeUp())
    assert bench.state.step is not None and (bench.state.step.attempt, bench.state.step.put_offs) == (2, 0)
    codec = bench.behaviour
    fail(bench, ModelFault.UNREACHABLE)
    assert codec.decode_state(codec.encode_state(bench.state)) == bench.state


def test_its_client_sees_once_that_it_waits_and_nothing_of_the_tries() -> None:
    bench = evaluating()
    first = view_of(bench)
    assert not first.waits_for_model
    bench.now_ms += 5
    fail(bench, ModelFault.UNREACHABLE)
    waiting = view_of(bench)
    assert (waiting.waits_for_model, waiting.updated_at_ms) == (True, START_MS + 5)
    for _ in range(5):
        wait(bench)
        assert view_of(bench) == waiting
        fail(bench, ModelFault.UNREACHABLE)
        assert view_of(bench) == waiting
    wait(bench)
    fail(bench, None)
    assert not view_of(bench).waits_for_model and view_of(bench).updated_at_ms == bench.now_ms


def test_a_journal_of_before_has_no_time_of_its_step_and_waits_as_long_as_the_invoice() -> None:
    bench = evaluating()
    old = bench.behaviour.encode_state(bench.state).replace(b'"since_ms":%d' % START_MS, b'"since_ms":0')
    assert old != bench.behaviour.encode_state(bench.state)
    bench.job = bench.behaviour.decode_state(old)
    bench.now_ms = EVAL_INVOICE.expires_at_ms - 1
    fail(bench, ModelFault.UNREACHABLE)
    assert bench.state.state is JobState.EVALUATING and wait(bench) == 1
    fail(bench, ModelFault.UNREACHABLE)
    assert bench.state.state is JobState.FAILED

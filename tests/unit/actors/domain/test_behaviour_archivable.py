"""Archiving: out of the store go sessions and jobs of which nothing is asked, awaited or payable any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from satmeter.actors.domain.behaviour import Failed, Wake
from satmeter.actors.domain.job.state import JobBooks, JobState, RefundJob
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from tests.helpers.jobs import FEES, HOUR_MS, JobBench, completion, invoice, verdict
from tests.helpers.sessions import SessionBench, ask, close, completed, once, target, top_up

TOP_UP = invoice(2, 100)


def funded(sats: int) -> SessionBench:
    bench = SessionBench()
    bench.fund(sats)
    return bench


def archivable(bench: SessionBench) -> bool:
    bench.restart(len(bench.journal) // 2)
    return bench.behaviour.done(bench.state)


def test_a_session_whose_last_two_sats_nobody_can_have_is_done_and_one_that_goes_on_is_not() -> None:
    bench = funded(2)
    assert not archivable(bench)
    bench.send(close())
    assert bench.money() == (0, 0, 0, 2_000, 0) and archivable(bench)


def test_a_session_is_kept_while_an_invoice_of_its_may_be_paid() -> None:
    bench = funded(2)
    bench.top_up_with(TOP_UP)
    bench.send(close())
    assert not archivable(bench)
    bench.now_ms += 2 * HOUR_MS
    bench.send(Wake())
    bench.finish(f"look_up:{TOP_UP.payment_hash}", None)
    assert archivable(bench)


def test_a_session_is_kept_while_an_invoice_is_made_for_it() -> None:
    bench = funded(2)
    topic = bench.send(top_up(sats=100)).wait_for
    assert topic is not None
    order = bench.running[topic]
    bench.send(close())
    assert not archivable(bench)
    bench.send(Failed(order, permanent=True))
    assert archivable(bench)


def test_a_session_is_kept_while_a_request_holds_what_may_come_back() -> None:
    bench = funded(8)
    bench.send(ask())
    answer = bench.held()
    bench.send(close())
    balance, held, spent, owed, paid = bench.money()
    assert (balance, spent, paid) == (0, 0, 0) and held + owed == 8_000 and owed < 14
    assert not archivable(bench)
    bench.running[answer.key] = answer
    bench.answer(completed())
    assert bench.money() == (0, 0, 6_860, 1_140, 0) and archivable(bench)


def test_a_session_is_kept_until_what_it_owes_is_paid_out_and_the_node_has_said_so() -> None:
    bench = funded(100)
    bench.send(close())
    assert not archivable(bench)
    to = target(7, 98)
    bench.send(close(to, "again"))
    (sent,) = bench.running.values()
    assert bench.state.books.owed == Msat(0) and not archivable(bench)
    bench.running[sent.key] = sent
    bench.finish(sent.key, PayoutReport(PayoutStatus.PAID, Msat(2_000)))
    assert bench.money() == (0, 0, 2_000, 0, 98_000) and archivable(bench)


def job(*steps: Callable[[JobBench], object]) -> JobBench:
    bench = JobBench()
    bench.open()
    for step in steps:
        step(bench)
    return bench


def judged(bench: JobBench) -> None:
    bench.finish(verdict())
    bench.finish(invoice(2, 9))


@pytest.mark.parametrize(
    ("steps", "state", "done"),
    [
        ([], JobState.AWAITING_EVAL_PAYMENT, False),
        ([JobBench.pay_eval], JobState.EVALUATING, False),
        # All that was paid is spent by then: it is the invoice that it is kept for.
        ([JobBench.pay_eval, judged], JobState.AWAITING_WORK_PAYMENT, False),
        ([JobBench.pay_eval, judged, JobBench.pay_work], JobState.EXECUTING, False),
        ([JobBench.pay_eval, lambda bench: bench.finish(verdict(accepted=False))], JobState.REJECTED, True),
    ],
)
def test_a_job_is_kept_until_its_end(steps: list[Callable[[JobBench], object]], state: JobState, done: bool) -> None:
    bench = job(*steps)
    assert bench.state.state is state
    assert bench.behaviour.done(bench.state) is done


def test_a_job_is_kept_until_what_it_owes_is_paid_out_and_the_node_has_said_so() -> None:
    bench = job(JobBench.pay_eval, judged, lambda bench: bench.pay_work(20_000))
    bench.finish(completion())
    owed = bench.state.books.owed.value
    assert owed == 20_000 - 3_780 and not bench.behaviour.done(bench.state)
    to = target(7, 14)
    bench.send(RefundJob(to, once()))
    assert bench.state.books.payable(bench.state.refunds, FEES) == Msat(0)
    assert not bench.behaviour.done(bench.state)
    bench.finish(PayoutReport(PayoutStatus.PAID, Msat(2_000)))
    assert bench.state.books == JobBooks(
        received=Msat(30_000), spent=Msat(10_000 + 3_780 + 2_000), refunded=Msat(14_000), owed=Msat(220)
    )
    assert bench.behaviour.done(bench.state)

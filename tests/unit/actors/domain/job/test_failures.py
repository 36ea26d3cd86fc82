"""Debts of a job that failed by our fault: all that was paid for it, to the millisatoshi."""

from __future__ import annotations

import msgspec
import pytest

from satmeter.actors.domain.behaviour import Failed
from satmeter.actors.domain.job.state import JobBooks, JobState
from satmeter.actors.domain.money import Msat
from satmeter.scripts.audit.books import books_of
from tests.helpers.jobs import JOB_ID, WORK_INVOICE, JobBench, verdict


@pytest.mark.parametrize("on_eval_msat", [0, 1, 714, 999, 1_000, 5_001])
@pytest.mark.parametrize("on_work_msat", [0, 716])
def test_what_was_paid_on_top_of_either_invoice_is_owed_too(on_eval_msat: int, on_work_msat: int) -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval(10_000 + on_eval_msat)
    bench.finish(verdict())
    bench.finish(WORK_INVOICE)
    bench.pay_work(9_000 + on_work_msat)
    bench.send(Failed(bench.intent(), permanent=True))
    paid = Msat(19_000 + on_eval_msat + on_work_msat)
    assert bench.state.state is JobState.FAILED
    assert bench.state.books == JobBooks(received=paid, owed=paid)
    audited = books_of(JOB_ID)
    for event in bench.events:
        audited.apply(msgspec.json.decode(bench.behaviour.encode_event(event)))
    assert (audited.received, audited.owed, audited.spent) == (paid.value, paid.value, 0)

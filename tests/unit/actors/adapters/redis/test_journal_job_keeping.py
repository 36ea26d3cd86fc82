"""Retention of jobs in the store."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.job.state import JobBooks
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import ReleaseUnpaid
from tests.helpers.jobs import HOUR_MS, START_MS, JobBench, verdict


def test_an_unpaid_job_disappears_by_itself_and_a_paid_one_never() -> None:
    bench = JobBench()
    bench.open()
    assert bench.behaviour.keep_ms(bench.state, START_MS) == HOUR_MS + 48 * HOUR_MS
    decision = bench.pay_eval()
    assert isinstance(decision.intents[0], ReleaseUnpaid)
    assert bench.behaviour.keep_ms(bench.state, START_MS) is None


@pytest.mark.parametrize("overpaid_msat", [0, 5_000])
def test_a_job_that_took_money_is_kept_for_good_whether_or_not_it_owes_any(overpaid_msat: int) -> None:
    bench = JobBench()
    bench.open()
    bench.pay_eval(10_000 + overpaid_msat)
    bench.finish(verdict(accepted=False))
    assert bench.state.books == JobBooks(
        received=Msat(10_000 + overpaid_msat), spent=Msat(10_000), owed=Msat(overpaid_msat)
    )
    assert bench.behaviour.keep_ms(bench.state, START_MS) is None

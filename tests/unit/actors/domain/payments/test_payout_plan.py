"""Plans of payouts to destinations, by sessions and jobs: what there is, and never beside a payout under way."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.behaviour import Failed
from satmeter.actors.domain.credentials.caveats import Action, Grant
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.job.state import PlanJobPayout, RefundJob
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payout_plan import PayoutPlan
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.domain.session.messages import CloseSession, PlanPayout
from tests.helpers.jobs import JobBench
from tests.helpers.sessions import FULL, SessionBench, grant, once, refusal_of, target


def plan(sats: int | None = None, name: str = "key", digest: str = "digest", by: Grant = FULL) -> PlanPayout:
    return PlanPayout(None if sats is None else Msat.from_sats(sats), once(name, digest), by)


def funded() -> SessionBench:
    bench = SessionBench()
    bench.fund(100)
    bench.finish("release", None)
    return bench


@pytest.mark.parametrize(("asked", "planned"), [(None, 98), (98, 98), (1, 1)])
def test_an_open_session_plans_with_its_balance_and_stays_open(asked: int | None, planned: int) -> None:
    bench = funded()
    before = bench.state
    decision = bench.send(plan(asked))
    assert decision.reply == PayoutPlan(Msat.from_sats(planned), "bcrt")
    assert not decision.events and not decision.intents and bench.state == before


def test_more_than_there_is_is_refused_with_what_there_is() -> None:
    refusal = refusal_of(funded().send(plan(99)))
    assert (refusal.code, refusal.details["maxSats"]) == (Code.INVALID_REQUEST, 98)
    assert refusal.details["fields"][0]["path"] == "amountSats"


def test_the_same_operation_joins_its_payout_and_another_is_refused() -> None:
    bench = funded()
    begun = bench.send(CloseSession(target(7, 98), once("key"), FULL))
    assert bench.send(plan()).wait_for == begun.wait_for
    assert refusal_of(bench.send(plan(digest="another body"))).code is Code.IDEMPOTENCY_CONFLICT
    assert refusal_of(bench.send(plan(name="another key"))).code is Code.REFUND_PENDING


@pytest.mark.parametrize(
    "by",
    [
        grant(actions=frozenset({Action.REQUEST})),
        grant(expires_at_s=1),
        grant(("counter", 50_000)),
        grant(per_request=50_000),
    ],
)
def test_a_credential_that_may_not_be_paid_out_gets_no_plan(by: Grant) -> None:
    refused = refusal_of(funded().send(plan(by=by))).code
    assert refused in (Code.CAVEAT_VIOLATED, Code.EXPIRED, Code.INVALID_CREDENTIAL)


def failed_job() -> JobBench:
    bench = JobBench()
    bench.open()
    bench.pay_eval()
    bench.send(Failed(bench.intent(), permanent=True))
    return bench


def test_a_job_plans_what_it_owes_and_nothing_once_it_is_paid() -> None:
    bench = failed_job()
    assert bench.send(PlanJobPayout(None, once())).reply == PayoutPlan(Msat.from_sats(10), "bcrt")
    begun = bench.send(RefundJob(target(7, 10), once()))
    assert bench.send(PlanJobPayout(None, once())).wait_for == begun.wait_for
    pending = bench.send(PlanJobPayout(None, once("another"))).reply
    assert isinstance(pending, Refusal) and pending.code is Code.REFUND_PENDING
    bench.finish(PayoutReport(PayoutStatus.PAID))
    over = bench.send(PlanJobPayout(None, once("another"))).reply
    assert isinstance(over, Refusal) and over.code is Code.WRONG_STATE

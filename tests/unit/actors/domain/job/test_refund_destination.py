"""Refunds of a job to the destination that its client named."""

from __future__ import annotations

import msgspec

from satmeter.actors.domain.behaviour import Done, Failed, TakeUp, Wake
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.job.state import CreateJob, JobState, RefundJob
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import ResolveRefund, Unresolved
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.domain.webhooks import Notify, Webhook
from tests.helpers.jobs import EVAL_INVOICE, JOB_ID, WORK_INVOICE, JobBench, completion, verdict
from tests.helpers.sessions import once, target

TO = "alice@example.org"
MINUTE_MS = 60_000
PAID, FAILED = PayoutReport(PayoutStatus.PAID), PayoutReport(PayoutStatus.FAILED)


def opened(webhook: Webhook | None = None) -> JobBench:
    """A job with a destination, whose evaluation is paid."""
    bench = JobBench()
    (order,) = bench.send(CreateJob("say hello", "client", webhook, TO)).intents
    bench.send(Done(order, EVAL_INVOICE))
    bench.pay_eval()
    return bench


def failed(webhook: Webhook | None = None) -> JobBench:
    """A job that failed by our fault, which owes all."""
    bench = opened(webhook)
    bench.send(Failed(bench.intent(), permanent=True))
    assert bench.state.state is JobState.FAILED
    return bench


def trying(bench: JobBench) -> ResolveRefund:
    """The try that is under way."""
    (intent,) = (i for i in bench.behaviour.intents(JOB_ID, bench.state) if isinstance(i, ResolveRefund))
    return intent


def test_a_job_that_failed_pays_back_whole_to_its_destination() -> None:
    bench = failed()
    assert trying(bench) == ResolveRefund("refund#1.0.0", TO, Msat.from_sats(10))
    bench.finish(target(7, 10))
    bench.finish(PAID)
    assert bench.state.books.refunded == Msat(10_000)
    assert bench.behaviour.done(bench.state) and bench.behaviour.due_ms(bench.state) is None


def test_work_that_was_cheaper_pays_the_rest_back_to_its_destination() -> None:
    bench = opened()
    bench.finish(verdict())
    bench.finish(WORK_INVOICE)
    assert bench.behaviour.intents(JOB_ID, bench.state) == ()
    bench.pay_work()
    bench.finish(completion())
    asked = trying(bench)
    bench.finish(target(7, asked.amount_msat.whole_sats))
    bench.finish(PAID)
    assert bench.state.books.refunded == asked.amount_msat


def test_a_job_that_owes_nothing_tries_nothing_and_shows_its_destination() -> None:
    bench = opened()
    bench.finish(verdict(accepted=False))
    assert bench.behaviour.intents(JOB_ID, bench.state) == () and bench.behaviour.due_ms(bench.state) is None
    shown = bench.behaviour.view(JOB_ID, bench.state).refund
    assert shown is not None and shown.standing is not None and shown.standing.destination == TO


def test_a_failed_try_is_due_again_also_for_the_next_host() -> None:
    bench = failed()
    assert bench.behaviour.due_ms(bench.state) == 0
    bench.finish(Unresolved("unreachable"))
    assert bench.behaviour.due_ms(bench.state) == bench.now_ms + MINUTE_MS
    bench.restart()
    assert bench.send(TakeUp()).intents == ()
    bench.now_ms += MINUTE_MS
    (again,) = bench.send(TakeUp()).intents
    assert bench.send(Wake()).intents == (again,)
    bench.send(Done(again, target(7, 10)))
    bench.finish(PAID)
    assert bench.state.books.refunded == Msat(10_000)


def test_a_payout_that_failed_is_followed_by_another_try() -> None:
    bench = failed()
    bench.finish(target(7, 10))
    bench.finish(FAILED)
    bench.finish(FAILED)
    assert bench.behaviour.due_ms(bench.state) == bench.now_ms + MINUTE_MS
    shown = bench.behaviour.view(JOB_ID, bench.state).refund
    assert shown is not None and shown.standing is not None and shown.standing.error == "payment_failed"


def test_an_answer_means_nothing_while_the_job_goes_on_or_an_invoice_by_hand_is_paid() -> None:
    bench = failed()
    late = trying(bench)
    bench.send(RefundJob(target(8, 5), once("by hand")))
    assert bench.send(Done(late, target(7, 10))).events == ()
    bench.finish(PAID)
    bench.finish(target(9, 5))
    bench.finish(PAID)
    assert bench.state.books.refunded == Msat(10_000)


def test_a_lost_payout_is_looked_up_and_nothing_is_tried_meanwhile() -> None:
    bench = failed()
    bench.finish(target(7, 10))
    bench.restart()
    bench.send(TakeUp())
    (look_up,) = bench.behaviour.intents(JOB_ID, bench.state)
    assert not isinstance(look_up, ResolveRefund)
    bench.send(Done(look_up, PAID))
    assert bench.state.books.refunded == Msat(10_000)


def test_another_destination_under_the_same_key_is_a_conflict() -> None:
    bench = opened()
    for command in (CreateJob("say hello", "client"), CreateJob("say hello", "client", refund_to="bob@example.org")):
        reply = bench.send(command).reply
        assert isinstance(reply, Refusal) and reply.code is Code.IDEMPOTENCY_CONFLICT
    assert not isinstance(bench.send(CreateJob("say hello", "client", refund_to=TO)).reply, Refusal)


def test_a_webhook_is_told_of_the_failure_and_of_the_payment() -> None:
    bench = failed(Webhook("https://example.org/hook"))
    bench.send(Done(trying(bench), Unresolved("unreachable")))
    bench.now_ms += MINUTE_MS
    (again, *_) = bench.send(Wake()).intents
    bench.send(Done(again, target(7, 10)))
    for intent in bench.behaviour.intents(JOB_ID, bench.state):
        if not isinstance(intent, Notify):
            bench.send(Done(intent, PAID))
    told = [msgspec.json.decode(i.body) for i in bench.behaviour.intents(JOB_ID, bench.state) if isinstance(i, Notify)]
    assert [notice["type"] for notice in told] == ["job.failed", "refund.failed", "refund.paid"]
    assert told[1]["data"]["jobId"] == JOB_ID and told[1]["data"]["nextAttemptAt"] == "2027-01-15T08:01:00.000Z"
    assert told[2]["data"] == {"jobId": JOB_ID, "amountSats": 10, "paymentHash": f"{7:064x}", "owedMsat": 0}

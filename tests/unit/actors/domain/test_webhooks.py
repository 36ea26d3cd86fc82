"""Notices of sessions and jobs to their webhooks, and their repeats. None of it touches money."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Decision, Done, Failed, TakeUp, Wake
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.job.state import CreateJob
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import IssueInvoice
from satmeter.actors.domain.session.messages import OpenSession, SessionCreated
from satmeter.actors.domain.webhooks import Notify, TryEnding, Webhook, WebhookTried, secret_of
from tests.helpers.jobs import EVAL_INVOICE, HOUR_MS, JOB_ID, WORK_INVOICE, JobBench, completion, invoice, verdict
from tests.helpers.sessions import DAY_MS, SESSION_ID, SessionBench, ask, close, completed

HOOK = Webhook("https://example.org/hook")
LOW = Webhook("https://example.org/hook", Msat(50_000))


def hooked(bench: JobBench | None = None) -> JobBench:
    """A job with a webhook, its evaluation paid."""
    bench = bench or JobBench()
    (order,) = bench.send(CreateJob("say hello", "client", HOOK)).intents
    bench.send(Done(order, EVAL_INVOICE))
    bench.pay_eval()
    return bench


def notices(bench: JobBench) -> list[Notify]:
    return [intent for intent in bench.behaviour.intents(JOB_ID, bench.state) if isinstance(intent, Notify)]


def work_on(bench: JobBench, result: Any) -> Decision:
    """Ends what is under way beside notices."""
    (intent,) = [i for i in bench.behaviour.intents(JOB_ID, bench.state) if not isinstance(i, Notify)]
    return bench.send(Done(intent, result))


def body(notify: Notify) -> Any:
    return json.loads(notify.body)


def test_a_job_tells_that_it_waits_for_payment_and_how_it_ended() -> None:
    bench = hooked()
    assert notices(bench) == []
    work_on(bench, verdict())
    work_on(bench, WORK_INVOICE)
    (waiting,) = notices(bench)
    assert waiting.url == HOOK.url
    assert body(waiting) == {
        "type": "job.awaiting_work_payment",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {
            "jobId": JOB_ID,
            "state": "awaiting_work_payment",
            "amountSats": 9,
            "expiresAt": "2027-01-15T09:00:00.000Z",
        },
    }
    bench.send(Done(waiting, True))
    assert notices(bench) == []
    bench.pay_work()
    work_on(bench, completion())
    (ended,) = notices(bench)
    assert body(ended)["data"] == {"jobId": JOB_ID, "state": "complete", "chargedMsat": 3_780, "refundMsat": 5_220}
    assert ended.webhook_id != waiting.webhook_id
    assert b"say hello" not in ended.body and b"the answer" not in ended.body


@pytest.mark.parametrize("ending", ["rejected", "failed", "expired"])
def test_every_way_to_end_is_told(ending: str) -> None:
    bench = hooked()
    if ending == "rejected":
        work_on(bench, verdict(accepted=False))
    elif ending == "failed":
        bench.send(Failed(bench.intent(), permanent=True))
    else:
        work_on(bench, verdict())
        work_on(bench, WORK_INVOICE)
        bench.send(Done(notices(bench)[0], True))
        bench.now_ms += 2 * HOUR_MS
        bench.send(Done(bench.send(Wake()).intents[0], None))
    (told,) = notices(bench)
    assert body(told)["type"] == f"job.{ending}"


def test_nobody_is_called_for_what_nobody_paid() -> None:
    bench = JobBench()
    (order,) = bench.send(CreateJob("say hello", "client", HOOK)).intents
    bench.send(Done(order, EVAL_INVOICE))
    bench.now_ms += 2 * HOUR_MS
    bench.send(Done(bench.send(Wake()).intents[0], None))
    assert bench.state.state == "expired"
    assert notices(bench) == []


def rejected_job() -> JobBench:
    bench = hooked()
    work_on(bench, verdict(accepted=False))
    return bench


def test_a_receiver_that_fails_is_called_again_for_a_day_under_the_same_id() -> None:
    bench = rejected_job()
    (first,) = notices(bench)
    attempts, attempt = [bench.now_ms], first
    while True:
        bench.send(Failed(attempt, permanent=False))
        # Also a host that knows nothing but the journal.
        bench.restart()
        assert notices(bench) == []
        due_ms = bench.behaviour.due_ms(bench.state)
        if due_ms is None:
            break
        bench.now_ms = due_ms - 1
        assert bench.send(Wake()).intents == ()
        bench.now_ms = due_ms
        (attempt,) = bench.send(Wake()).intents  # type: ignore[assignment]
        assert attempt == first
        attempts.append(due_ms)
    waits = [(later - earlier) // 1_000 for earlier, later in itertools.pairwise(attempts)]
    assert waits == [5, 30, 120, 600, 3_600, 14_400, 28_800, 38_400]
    assert DAY_MS - HOUR_MS < attempts[-1] - attempts[0] <= DAY_MS
    last = bench.events[-1]
    assert isinstance(last, WebhookTried) and last.ending is TryEnding.GIVEN_UP


def test_a_host_that_dies_with_an_attempt_under_way_leaves_it_to_the_next() -> None:
    bench = rejected_job()
    (first,) = notices(bench)
    bench.restart()
    bench.send(TakeUp())
    assert notices(bench) == [first]


def test_a_receiver_that_wants_no_more_gets_no_more() -> None:
    bench = hooked()
    work_on(bench, verdict())
    work_on(bench, WORK_INVOICE)
    bench.send(Done(notices(bench)[0], False))
    bench.pay_work()
    work_on(bench, completion())
    assert notices(bench) == []


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    bench = rejected_job()
    (told,) = notices(bench)
    assert bench.send(Done(told, True)).events
    assert not bench.send(Done(told, True)).events
    assert not bench.send(Failed(told, permanent=False)).events


def test_a_notice_changes_nothing_that_a_client_sees_or_is_owed() -> None:
    bench = rejected_job()
    before, view = bench.state, bench.behaviour.view(JOB_ID, bench.state)
    bench.now_ms += 1_000
    bench.send(Failed(notices(bench)[0], permanent=False))
    assert bench.behaviour.view(JOB_ID, bench.state) == view
    assert bench.state.books == before.books
    assert replace(bench.state, outbox=None) == replace(before, outbox=None)


def test_a_job_is_not_archived_before_its_end_was_told() -> None:
    bench = rejected_job()
    assert not bench.behaviour.done(bench.state)
    bench.send(Done(notices(bench)[0], True))
    assert bench.behaviour.done(bench.state)


def test_an_invoice_that_lapses_is_looked_up_also_while_a_notice_waits() -> None:
    bench = hooked()
    work_on(bench, verdict())
    work_on(bench, WORK_INVOICE)
    for _ in range(5):
        bench.send(Failed((notices(bench) or bench.send(Wake()).intents)[-1], permanent=False))
        bench.now_ms = max(bench.now_ms, *(n.due_ms for n in bench.state.outbox.notices))  # type: ignore[union-attr]
    bench.now_ms = max(bench.now_ms, WORK_INVOICE.expires_at_ms + 1_000)
    look_up, again = bench.send(Wake()).intents
    assert (look_up.key, isinstance(again, Notify)) == (f"look_up:{WORK_INVOICE.payment_hash}", True)


def test_the_webhook_is_part_of_what_an_idempotency_key_stands_for() -> None:
    bench = hooked()
    same = bench.send(CreateJob("say hello", "client", HOOK)).reply
    assert not isinstance(same, Refusal)
    for other in (None, Webhook("https://example.org/other")):
        reply = bench.send(CreateJob("say hello", "client", other)).reply
        assert isinstance(reply, Refusal) and reply.code is Code.IDEMPOTENCY_CONFLICT
    (one,), (two,) = (JobBench().send(CreateJob("say hello", "client", webhook)).intents for webhook in (HOOK, None))
    assert one.key != two.key


# Sessions


def session(webhook: Webhook | None = LOW, sats: int = 100) -> SessionBench:
    bench = SessionBench()
    deposit = invoice(1, sats)
    (order,) = bench.send(OpenSession(sats, "client", webhook)).intents
    bench.send(Done(order, deposit))
    bench.pay(deposit)
    return bench


def low(bench: SessionBench) -> list[Notify]:
    return [intent for intent in bench.running.values() if isinstance(intent, Notify)]


def spend(bench: SessionBench, names: str) -> None:
    """Each costs 6,860 msat, of which a hold is several times as much."""
    for name in names:
        bench.send(ask(name))
        bench.answer(completed(), name)


def test_a_balance_that_falls_under_its_threshold_is_told_once() -> None:
    bench = session()
    spend(bench, "abcdefg")
    # 51,980 msat are left; the next request's hold leaves less, but most of it comes back.
    bench.send(ask("h"))
    assert bench.view().balance_msat < LOW.low_balance_msat
    assert low(bench) == []
    bench.answer(completed(), "h")
    (told,) = low(bench)
    assert body(told) == {
        "type": "session.low_balance",
        "timestamp": "2027-01-15T08:00:00.000Z",
        "data": {"sessionId": SESSION_ID, "remainingMsat": 45_120, "lowBalanceSats": 50},
    }
    bench.finish(told.key, True)
    spend(bench, "ij")
    assert low(bench) == []


def test_it_is_told_again_only_after_it_rose_above() -> None:
    bench = session()
    spend(bench, "abcdefgh")
    first = low(bench)[0]
    bench.finish(first.key, True)
    bench.top_up_with(invoice(2, 10))
    bench.pay(invoice(2, 10))
    spend(bench, "i")
    (again,) = low(bench)
    assert again.webhook_id != first.webhook_id
    assert body(again)["data"]["remainingMsat"] == 48_260


def test_while_one_waits_to_be_told_there_is_no_other() -> None:
    bench = session()
    spend(bench, "abcdefgh")
    (first,) = low(bench)
    bench.fail(first.key)
    bench.top_up_with(invoice(2, 10))
    bench.pay(invoice(2, 10))
    spend(bench, "i")
    assert low(bench) == []
    bench.now_ms += 5_000
    bench.send(Wake())
    assert low(bench) == [first]
    bench.finish(first.key, True)
    assert low(bench) == []


def test_a_deposit_under_the_threshold_and_the_end_of_a_session_are_no_fall() -> None:
    bench = session(sats=40)
    spend(bench, "a")
    assert low(bench) == []
    bench = session()
    bench.send(close())
    assert low(bench) == []


def test_a_session_takes_its_notice_through_a_crash_wherever_its_snapshot_is() -> None:
    bench = session()
    spend(bench, "abcdefgh")
    (first,) = low(bench)
    for snapshot_at in range(0, len(bench.journal), 5):
        bench.restart(snapshot_at)
    bench.crash()
    assert low(bench) == [first]
    bench.fail(first.key)
    due_ms = bench.behaviour.due_ms(bench.state)
    assert due_ms == bench.now_ms + 5_000
    assert not bench.behaviour.done(bench.state)


def test_the_books_of_a_session_with_a_webhook_are_those_of_one_without() -> None:
    """At every event, also when notices fail in between."""
    told, plain = session(), session(None)
    for name in "abcdefghij":
        for bench in (told, plain):
            spend(bench, name)
        for notify in low(told):
            told.fail(notify.key)
        assert told.money() == plain.money()
        assert told.ledger() == plain.ledger()


def test_a_session_is_another_one_with_another_webhook() -> None:
    bench = session()
    assert isinstance(bench.send(OpenSession(100, "client", LOW)).reply, SessionCreated)
    for other in (None, replace(LOW, low_balance_msat=Msat(1_000)), replace(LOW, url="https://example.org/")):
        reply = bench.send(OpenSession(100, "client", other)).reply
        assert isinstance(reply, Refusal) and reply.code is Code.IDEMPOTENCY_CONFLICT
    keys = set()
    for webhook in (LOW, None):
        (order,) = SessionBench().send(OpenSession(100, "client", webhook)).intents
        assert isinstance(order, IssueInvoice)
        keys.add(order.key)
    assert len(keys) == 2


def test_secrets_differ_by_actor_and_key() -> None:
    made = {secret_of(key, actor) for key in (b"a", b"b") for actor in (JOB_ID, SESSION_ID)}
    assert len(made) == 4
    assert all(secret.startswith("whsec_") for secret in made)

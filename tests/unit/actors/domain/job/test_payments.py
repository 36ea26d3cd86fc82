"""Jobs that are not paid in time: what is kept of them, and payments that come later."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.behaviour import Done, Wake
from satmeter.actors.domain.errors import Refusal
from satmeter.actors.domain.job.payments import EXPIRY_GRACE_MS, KEEP_TEXT_MS
from satmeter.actors.domain.job.state import (
    CreateJob,
    GetJob,
    JobBooks,
    JobExpired,
    JobOpened,
    JobState,
    RequestDropped,
)
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import LookUpInvoice
from satmeter.actors.domain.payments.invoices import Invoice, InvoicePurpose, InvoiceState, ShowInvoice, ShownInvoice
from satmeter.actors.domain.receipts import GetJobReceipt, Receipt, text_digest
from satmeter.actors.domain.webhooks import Webhook
from tests.helpers.jobs import EVAL_INVOICE, HOUR_MS, START_MS, WORK_INVOICE, JobBench

TEXT = "a text that somebody sent and did not pay for"


def expired() -> JobBench:
    """Return a job whose evaluation was not paid in time."""
    bench = JobBench()
    bench.open(TEXT)
    bench.now_ms = START_MS + HOUR_MS + EXPIRY_GRACE_MS
    (look_up,) = bench.send(Wake()).intents
    bench.send(Done(look_up, None))
    return bench


def dropped() -> JobBench:
    """Return the same, when its text is gone."""
    bench = expired()
    bench.now_ms += KEEP_TEXT_MS
    bench.send(Wake())
    return bench


def test_the_text_of_a_job_is_dropped_a_minute_after_it_expired() -> None:
    bench = expired()
    assert bench.behaviour.due_ms(bench.state) == bench.now_ms + KEEP_TEXT_MS
    bench.now_ms += KEEP_TEXT_MS - 1
    bench.send(Wake())
    assert bench.state.request == TEXT
    bench.now_ms += 1
    bench.send(Wake())
    assert bench.behaviour.due_ms(bench.state) is None
    journal = [bench.behaviour.encode_event(event) for event in bench.events]
    assert [type(event) for event in bench.events] == [JobOpened, JobExpired, RequestDropped]
    assert TEXT.encode() not in b"".join(journal)
    assert TEXT.encode() not in bench.behaviour.encode_state(bench.state)


def test_what_the_journal_then_holds_folds_to_the_same_job() -> None:
    bench = dropped()
    before = bench.state
    bench.restart()
    assert bench.state == before
    assert bench.state.request_digest == text_digest(TEXT)


def test_where_refunds_go_and_notices_stay_known() -> None:
    bench = JobBench()
    webhook = Webhook("https://x.test/")
    (order,) = bench.send(CreateJob(TEXT, "client", webhook, "me@x.test")).intents
    bench.send(Done(order, EVAL_INVOICE))
    bench.now_ms = START_MS + HOUR_MS + EXPIRY_GRACE_MS
    look_up = next(intent for intent in bench.send(Wake()).intents if isinstance(intent, LookUpInvoice))
    bench.send(Done(look_up, None))
    bench.now_ms += KEEP_TEXT_MS
    bench.send(Wake())
    assert bench.state.request_digest
    before = bench.state
    bench.restart()
    assert bench.state == before
    assert bench.send(CreateJob(TEXT, "client", webhook, "me@x.test")).reply == bench.send(GetJob()).reply


def test_a_client_sees_nothing_of_it() -> None:
    one, other = expired(), dropped()
    assert one.send(GetJob()).reply == other.send(GetJob()).reply


def test_the_same_request_still_gives_the_same_job_and_another_one_is_a_conflict() -> None:
    bench = dropped()
    view = bench.send(GetJob()).reply
    assert bench.send(CreateJob(TEXT, "client")).reply == view
    for other in (CreateJob("", "client"), CreateJob(TEXT, "client", Webhook("https://x.test/"))):
        reply = bench.send(other).reply
        assert isinstance(reply, Refusal) and reply.code == "idempotency_conflict"


@pytest.mark.parametrize("amount_msat", [10_000, 12_345])
def test_a_payment_that_comes_then_is_owed_whole(amount_msat: int) -> None:
    bench = dropped()
    bench.pay_eval(amount_msat)
    assert bench.state.state is JobState.FAILED
    assert bench.state.books == JobBooks(received=Msat(amount_msat), owed=Msat(amount_msat))
    assert "expiry" in (bench.state.error_message or "")
    assert not bench.behaviour.intents("job", bench.state)
    assert bench.pay_eval(amount_msat).events == ()
    receipt = bench.send(GetJobReceipt()).reply
    assert isinstance(receipt, Receipt) and receipt.request_digest == text_digest(TEXT)


def test_a_payment_that_comes_sooner_moves_the_job_on_and_its_text_stays() -> None:
    bench = expired()
    bench.now_ms += KEEP_TEXT_MS - 1
    bench.pay_eval()
    assert bench.state.state is JobState.EVALUATING
    bench.now_ms += HOUR_MS
    bench.send(Wake())
    assert bench.state.request == TEXT


def test_the_text_of_a_job_whose_work_was_not_paid_for_stays() -> None:
    bench = JobBench()
    bench.to_work_invoice()
    bench.now_ms = START_MS + HOUR_MS + EXPIRY_GRACE_MS
    (look_up,) = bench.send(Wake()).intents
    bench.send(Done(look_up, None))
    assert (bench.state.state, bench.behaviour.due_ms(bench.state)) == (JobState.EXPIRED, None)
    bench.now_ms += KEEP_TEXT_MS
    assert bench.send(Wake()).events == ()
    assert bench.state.eval_invoice == EVAL_INVOICE


# What a stranger may see of an invoice


def shown(bench: JobBench, invoice: Invoice) -> ShownInvoice | Refusal:
    reply = bench.send(ShowInvoice(invoice.payment_hash[-20:])).reply
    assert isinstance(reply, ShownInvoice | Refusal)
    return reply


def test_an_invoice_of_a_job_is_open_then_paid() -> None:
    bench = JobBench()
    bench.open()
    assert shown(bench, EVAL_INVOICE) == ShownInvoice(InvoiceState.OPEN, InvoicePurpose.EVALUATION, EVAL_INVOICE)
    assert isinstance(shown(bench, WORK_INVOICE), Refusal)
    bench = JobBench()
    bench.to_work_invoice()
    assert shown(bench, EVAL_INVOICE) == ShownInvoice(InvoiceState.PAID, InvoicePurpose.EVALUATION)
    assert shown(bench, WORK_INVOICE) == ShownInvoice(InvoiceState.OPEN, InvoicePurpose.WORK, WORK_INVOICE)
    bench.pay_work()
    assert shown(bench, WORK_INVOICE) == ShownInvoice(InvoiceState.PAID, InvoicePurpose.WORK)


def test_an_invoice_of_a_job_that_was_not_paid_in_time_is_shown_to_nobody() -> None:
    assert shown(expired(), EVAL_INVOICE) == ShownInvoice(InvoiceState.EXPIRED, InvoicePurpose.EVALUATION)


def test_a_payment_that_came_late_is_shown_as_paid() -> None:
    bench = expired()
    bench.pay_eval()
    assert shown(bench, EVAL_INVOICE) == ShownInvoice(InvoiceState.PAID, InvoicePurpose.EVALUATION)

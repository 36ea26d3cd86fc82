"""Effects of each event on a job. Old journals are folded by this code for good: an event's meaning never changes."""

from __future__ import annotations

from msgspec.structs import replace

from .. import refund_notices
from ..behaviour import BooksError, Event
from ..money import ZERO, Msat
from ..payments import payout_flow, refund_flow
from ..payments.payouts import PayoutFailed, PayoutPaid, PayoutStarted, PayoutUnclear
from ..payments.refund_flow import RefundTryFailed
from ..webhooks import Outbox, WebhookTried, tried
from .notices import noticed
from .state import (
    FINAL_STATES,
    AttemptFailed,
    AttemptStarted,
    CostLedger,
    EvalPaid,
    Job,
    JobAccepted,
    JobCompleted,
    JobExpired,
    JobFailed,
    JobOpened,
    JobRejected,
    JobState,
    RequestDropped,
    Step,
    StepKind,
    WorkInvoiceIssued,
    WorkPaid,
)


def evolve(job: Job | None, event: Event) -> Job:
    """Return the job after the event. Raises `BooksError` for an event that can't follow on this state."""
    if isinstance(event, JobOpened):
        if job is not None:
            raise BooksError("a job is opened once")
        return _opened(event)
    if job is None:
        raise BooksError(f"{type(event).__name__} before the job was opened")
    if isinstance(event, WebhookTried):
        # The job's client sees nothing of webhook attempts, so `updated_at_ms` stays.
        return replace(job, outbox=tried(job.outbox, event))
    if isinstance(event, RequestDropped):
        # Nor of its text.
        return replace(job, request="", request_digest=event.request_digest)
    folded = _fold(job, event)
    after = noticed(job, folded if _waits_on(job, folded) else replace(folded, updated_at_ms=event.at_ms))
    if (after.state in FINAL_STATES) is (job.state in FINAL_STATES):
        return after
    # An expired job goes on if it is still paid: then it has no end any more.
    return replace(after, finished_at_ms=event.at_ms if after.state in FINAL_STATES else None)


def _waits_on(before: Job, after: Job) -> bool:
    """Return True if the job waits for the model before and after, so that its client sees no change."""
    return all(job.step is not None and job.step.waits_for_model for job in (before, after))


def _started(step: Step | None, event: AttemptStarted) -> Step:
    if step is None or step.attempt != event.attempt:
        return Step(event.step, event.attempt, since_ms=0 if step is None else step.since_ms)
    return replace(step, retry_at_ms=None)


def _failed(step: Step | None, event: AttemptFailed) -> Step:
    since_ms, put_offs = (0, 0) if step is None else (step.since_ms, step.put_offs)
    return Step(event.step, event.attempt, event.retry_at_ms, since_ms, put_offs + 1 if event.put_off else 0)


def _opened(event: JobOpened) -> Job:
    return Job(
        request=event.request,
        client=event.client,
        state=JobState.AWAITING_EVAL_PAYMENT,
        created_at_ms=event.at_ms,
        updated_at_ms=event.at_ms,
        eval_invoice=event.eval_invoice,
        outbox=None if event.webhook is None else Outbox(event.webhook),
        refunds=refund_flow.opened(event.refund_to),
        request_digest=event.request_digest,
    )


def _fold(job: Job, event: Event) -> Job:
    match event:
        case EvalPaid():
            return _eval_paid(job, event)
        case WorkPaid():
            return _work_paid(job, event)
        case AttemptStarted():
            return replace(job, step=_started(job.step, event))
        case AttemptFailed():
            return replace(job, step=_failed(job.step, event))
        case JobAccepted():
            step = Step(StepKind.INVOICE, since_ms=event.at_ms)
            return replace(job, size=event.size, breakdown=event.breakdown, tariff=event.tariff, step=step)
        case JobRejected():
            return _end(job, JobState.REJECTED, spent=_eval_fee(job), reason=event.reason)
        case WorkInvoiceIssued():
            books = job.books.deliver(_eval_fee(job))
            state = JobState.AWAITING_WORK_PAYMENT
            return replace(job, state=state, step=None, books=books, work_invoice=event.work_invoice)
        case JobCompleted():
            return _completed(job, event)
        case JobFailed():
            return _job_failed(job, event)
        case JobExpired():
            return replace(job, state=JobState.EXPIRED, step=None)
        case PayoutStarted() | PayoutUnclear() | PayoutPaid() | PayoutFailed():
            books, refunds = payout_flow.fold(job.books, job.refunds, event)
            outbox = refund_notices.noticed(job.outbox, job.refunds, books, event)
            return replace(job, books=books, refunds=refunds, outbox=outbox)
        case RefundTryFailed():
            outbox = refund_notices.noticed(job.outbox, job.refunds, job.books, event)
            return replace(job, refunds=refund_flow.fold(job.refunds, event), outbox=outbox)
    raise BooksError(f"no job knows the event {type(event).__name__}")


def _eval_paid(job: Job, event: EvalPaid) -> Job:
    if job.eval_paid or event.payment_hash != job.eval_invoice.payment_hash:
        raise BooksError("an evaluation is paid once, by its own invoice")
    books = job.books.receive(event.amount_msat)
    step = Step(StepKind.EVALUATE, since_ms=event.at_ms)
    return replace(job, state=JobState.EVALUATING, step=step, books=books, eval_paid=True)


def _work_paid(job: Job, event: WorkPaid) -> Job:
    if job.work_paid_msat or job.work_invoice is None or event.payment_hash != job.work_invoice.payment_hash:
        raise BooksError("work is paid once, by its own invoice")
    books = job.books.receive(event.amount_msat)
    step = Step(StepKind.WORK, since_ms=event.at_ms)
    return replace(job, state=JobState.EXECUTING, step=step, books=books, work_paid_msat=event.amount_msat)


def _completed(job: Job, event: JobCompleted) -> Job:
    ledger = CostLedger(
        model=event.model,
        usage=event.usage,
        cost_usd=event.cost_usd,
        charged_msat=event.charged_msat,
        paid_msat=job.work_paid_msat,
    )
    ended = _end(job, JobState.COMPLETE, spent=event.charged_msat, result=event.result, ledger=ledger)
    return replace(ended, work_reported=event.reported)


def _job_failed(job: Job, event: JobFailed) -> Job:
    ended = _end(job, JobState.FAILED, spent=ZERO, error_message=event.message)
    returned = event.evaluation_returned_msat
    return replace(
        ended,
        books=ended.books.give_back(returned),
        refunds=replace(ended.refunds, whole=event.ours),
        evaluation_returned=bool(returned),
    )


def _end(job: Job, state: JobState, *, spent: Msat, **fields: object) -> Job:
    return replace(job, state=state, step=None, books=job.books.deliver(spent), **fields)


def _eval_fee(job: Job) -> Msat:
    """Return the evaluation invoice's amount; what a wallet paid on top of it is owed back."""
    return min(job.books.held, Msat.from_sats(job.eval_invoice.amount_sats))

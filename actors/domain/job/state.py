"""A job: its state, events, commands and replies."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Never

import msgspec

from ..behaviour import BooksError, Command, Event, Once, Reply
from ..llm.reported_usage import ReportedUsage
from ..money import ZERO, Msat, total
from ..payments.invoices import Invoice
from ..payments.payout_plan import PayoutPlan
from ..payments.payouts import OwingBooks, PayoutEvent, PayoutTarget, Refunds, RefundView, refund_view
from ..payments.refund_flow import RefundTryFailed
from ..payments.routing_fees import RoutingFees
from ..pricing import PricingBreakdown, Size, Tariff, Usage
from ..receipts import text_digest
from ..webhooks import Outbox, Webhook, WebhookTried


class JobState(StrEnum):
    """The states of the contract. A payment moves a job on; the last four are final."""

    AWAITING_EVAL_PAYMENT = "awaiting_eval_payment"
    EVALUATING = "evaluating"
    AWAITING_WORK_PAYMENT = "awaiting_work_payment"
    EXECUTING = "executing"
    COMPLETE = "complete"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"


FINAL_STATES = frozenset({JobState.COMPLETE, JobState.REJECTED, JobState.FAILED, JobState.EXPIRED})


class StepKind(StrEnum):
    """Steps that a job has done outside, one at a time."""

    EVALUATE = "evaluate"
    INVOICE = "invoice"
    WORK = "work"


class Step(msgspec.Struct, frozen=True):
    """The current step of a job, since `since_ms`: attempt `attempt` is under way, or waits until `retry_at_ms`.

    put_offs: the number of times that this attempt came to nothing because the model was away.
    """

    kind: StepKind
    attempt: int = 1
    retry_at_ms: int | None = None
    since_ms: int = 0
    put_offs: int = 0

    @property
    def under_way(self) -> bool:
        """True if the attempt was started; its outcome may still come, or be lost with the host."""
        return self.retry_at_ms is None

    @property
    def waits_for_model(self) -> bool:
        """True if the step goes on as soon as the model is back."""
        return self.put_offs > 0


class JobBooks(OwingBooks, frozen=True):
    """Double entry of a job: received = held + spent + owed + pending + refunded, at every event.

    held: paid for something that is not delivered yet. For the rest see `OwingBooks`.
    """

    received: Msat = ZERO
    held: Msat = ZERO

    def __post_init__(self) -> None:
        parts = total([self.held, self.spent, self.owed, self.pending, self.refunded])
        if parts != self.received:
            raise BooksError(f"job books do not close: received {self.received}, accounted for {parts}")

    @property
    def liability(self) -> Msat:
        """Amount that the wallet must hold, see `Behaviour.liability`."""
        return self.held + self.owed

    def receive(self, amount: Msat) -> JobBooks:
        """Add a settled payment, held until something is delivered for it."""
        return msgspec.structs.replace(self, received=self.received + amount, held=self.held + amount)

    def deliver(self, spent: Msat) -> JobBooks:
        """Spend `spent` of what is held, and owe the rest.

        A rest of less than a satoshi becomes ours too: no invoice is small enough to pay it back.
        """
        rest = self.held - spent
        owed = rest if rest.whole_sats else ZERO
        return msgspec.structs.replace(self, held=ZERO, spent=self.spent + (self.held - owed), owed=self.owed + owed)

    def give_back(self, amount: Msat) -> JobBooks:
        """Owe an amount that was spent. Raises `MoneyError` for more than was spent."""
        return msgspec.structs.replace(self, spent=self.spent - amount, owed=self.owed + amount)


class CostLedger(msgspec.Struct, frozen=True):
    """The actual cost of the work. `refund_msat` is what was paid beyond `charged_msat`."""

    model: str
    usage: Usage
    cost_usd: Decimal
    charged_msat: Msat
    paid_msat: Msat

    @property
    def refund_msat(self) -> Msat:
        """Rest of the payment, which is owed back."""
        return self.paid_msat - self.charged_msat


class Job(msgspec.Struct, frozen=True):
    """The state of a job. `client` is a digest that identifies the client, for limits on unpaid invoices.

    `request_digest` stands for a request whose text is not kept any more; it is empty while the text is here.
    `finished_at_ms` is the time at which it came to its final state; payouts don't change it.
    """

    request: str
    client: str
    state: JobState
    created_at_ms: int
    updated_at_ms: int
    eval_invoice: Invoice
    finished_at_ms: int | None = None
    eval_paid: bool = False
    books: JobBooks = JobBooks()
    step: Step | None = None
    size: Size | None = None
    breakdown: PricingBreakdown | None = None
    tariff: Tariff | None = None
    work_invoice: Invoice | None = None
    work_paid_msat: Msat = ZERO
    reason: str | None = None
    result: str | None = None
    error_message: str | None = None
    evaluation_returned: bool = False
    ledger: CostLedger | None = None
    work_reported: ReportedUsage | None = None
    refunds: Refunds = Refunds()
    outbox: Outbox | None = None
    request_digest: str = ""

    @property
    def settled(self) -> tuple[str, ...]:
        """Hashes of the invoices that were paid."""
        work = self.work_invoice if self.work_paid_msat else None
        paid = (self.eval_invoice if self.eval_paid else None, work)
        return tuple(invoice.payment_hash for invoice in paid if invoice is not None)


# Events. Their tags are in journals for good: a changed meaning gets a new tag, and the old one stays readable.


class JobOpened(Event, frozen=True, tag="job_opened"):
    """The evaluation's invoice was made; from here on the job exists.

    `request_digest`: of a request whose text is not kept any more, see `RequestDropped`.
    """

    request: str
    client: str
    eval_invoice: Invoice
    webhook: Webhook | None = None
    refund_to: str | None = None
    request_digest: str = ""


class RequestDropped(Event, frozen=True, tag="request_dropped"):
    """The text of a job that was not paid in time is kept no longer; its digest tells it apart from another one."""

    request_digest: str


class EvalPaid(Event, frozen=True, tag="eval_paid"):
    """The node reported the evaluation's invoice as settled."""

    payment_hash: str
    amount_msat: Msat


class AttemptStarted(Event, frozen=True, tag="attempt_started"):
    """A further attempt of a step, after one that failed or was lost with its host."""

    step: StepKind
    attempt: int


class AttemptFailed(Event, frozen=True, tag="attempt_failed"):
    """An attempt failed in a way that may pass; the next one starts at `retry_at_ms`.

    `put_off`: the model was away; the attempt does not count, and the same one starts again.
    """

    step: StepKind
    attempt: int
    retry_at_ms: int
    put_off: bool = False


class EvaluationCost(msgspec.Struct, frozen=True):
    """Cost of an evaluation by the operator's prices, and the exchange rate of that moment.

    No client is charged by it: the evaluation has a fee. The operator's figures count it.
    """

    usd: Decimal
    btc_price_usd: Decimal


class JobAccepted(Event, frozen=True, tag="job_accepted"):
    """The evaluation accepted the request, and the work has a price.

    `tariff`: the prices that the work is charged at, even if they change before it is done; None in journals of
    format 1, whose work is charged at the prices of its completion. `evaluation_cost`: None in journals of formats
    before 6, and where it is unknown.
    """

    size: Size
    reason: str
    model: str
    usage: Usage | None
    breakdown: PricingBreakdown
    tariff: Tariff | None = None
    evaluation_cost: EvaluationCost | None = None


class JobRejected(Event, frozen=True, tag="job_rejected"):
    """The evaluation rejected the request; its fee is kept. `evaluation_cost`: see `JobAccepted`."""

    reason: str
    model: str
    usage: Usage | None
    evaluation_cost: EvaluationCost | None = None


class WorkInvoiceIssued(Event, frozen=True, tag="work_invoice_issued"):
    """The work's invoice was made: the evaluation is delivered, its fee is spent."""

    work_invoice: Invoice


class WorkPaid(Event, frozen=True, tag="work_paid"):
    """The node reported the work's invoice as settled."""

    payment_hash: str
    amount_msat: Msat


class JobCompleted(Event, frozen=True, tag="job_completed"):
    """The work is done and charged. `usage_known` is False when the estimate had to stand for it.

    reported: the provider's report, for the receipt; None in journals of formats before 4.
    """

    result: str
    stop_reason: str
    model: str
    usage: Usage
    usage_known: bool
    cost_usd: Decimal
    charged_msat: Msat
    reported: ReportedUsage | None = None


class JobFailed(Event, frozen=True, tag="job_failed"):
    """A step failed for good; what was paid for it is owed.

    `ours`: the failure was ours or a provider's of ours, so that what is owed is paid out without a routing reserve.
    `evaluation_returned_msat`: what was kept for an evaluation that had been delivered; it is owed as well.
    """

    message: str
    ours: bool = False
    evaluation_returned_msat: Msat = ZERO


class JobExpired(Event, frozen=True, tag="job_expired"):
    """An invoice was not paid in time."""


JobEvent = (
    JobOpened
    | RequestDropped
    | EvalPaid
    | AttemptStarted
    | AttemptFailed
    | JobAccepted
    | JobRejected
    | WorkInvoiceIssued
    | WorkPaid
    | JobCompleted
    | JobFailed
    | JobExpired
    | PayoutEvent
    | RefundTryFailed
    | WebhookTried
)


# Replies


class JobView(Reply, frozen=True, tag="job"):
    """A job as its client sees it."""

    job_id: str
    state: JobState
    created_at_ms: int
    updated_at_ms: int
    eval_invoice: Invoice
    work_invoice: Invoice | None
    reason: str | None
    result: str | None
    error_message: str | None
    breakdown: PricingBreakdown | None
    ledger: CostLedger | None
    refund: RefundView | None
    waits_for_model: bool = False


# Commands


class CreateJob(Command[JobView, Never], frozen=True, tag="create_job"):
    """Open a job. The same request again gives the same job; another one is a conflict."""

    request: str
    client: str
    webhook: Webhook | None = None
    refund_to: str | None = None

    def made(self, job: Job) -> bool:
        """Return True if the job is the one that this command asks for."""
        webhook = None if job.outbox is None else job.outbox.webhook
        refund_to = None if job.refunds.standing is None else job.refunds.standing.destination
        dropped = job.request_digest
        same = text_digest(self.request) == dropped if dropped else self.request == job.request
        return same and webhook == self.webhook and refund_to == self.refund_to


class GetJob(Command[JobView, Never], frozen=True, tag="get_job"):
    """Get the job's view."""


class WatchJob(Command[JobView, Never], frozen=True, tag="watch_job"):
    """Get the job's view now and after each change, until it is final."""


class PlanJobPayout(Command[JobView | PayoutPlan, Never], frozen=True, tag="plan_job_payout"):
    """Get the plan of a payout to a destination; joins the payout that `RefundJob` with this `once` has begun.

    amount_msat: the sum that the client asks for; None for all that can be paid out.
    """

    amount_msat: Msat | None
    once: Once


class RefundJob(Command[JobView, Never], frozen=True, tag="refund_job"):
    """Pay what is owed to this invoice. `waits`: reply when the payout has ended, else when it is journaled."""

    target: PayoutTarget
    once: Once
    waits: bool = True


def view(job_id: str, job: Job, fees: RoutingFees) -> JobView:
    """Return the job as its client sees it."""
    return JobView(
        job_id=job_id,
        state=job.state,
        created_at_ms=job.created_at_ms,
        updated_at_ms=job.updated_at_ms,
        eval_invoice=job.eval_invoice,
        work_invoice=job.work_invoice,
        reason=job.reason,
        result=job.result,
        error_message=job.error_message,
        breakdown=job.breakdown if job.work_invoice is not None else None,
        ledger=job.ledger,
        refund=_refund_view(job, fees),
        waits_for_model=_waits_for_model(job),
    )


def _waits_for_model(job: Job) -> bool:
    return job.step is not None and job.step.waits_for_model


def _refund_view(job: Job, fees: RoutingFees) -> RefundView | None:
    """Return the job's refund; None where nothing is or was owed, and no destination was named."""
    books = job.books
    if not (books.owed or books.pending or books.refunded or job.refunds.standing):
        return None
    return refund_view(books, job.refunds, fees)

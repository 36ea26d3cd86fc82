"""The behaviour of a job: which command is possible in which state, and what follows from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

import msgspec
from msgspec.structs import replace

from .. import webhooks
from ..behaviour import NOTHING, Alarm, Command, Decision, Done, Event, Failed, Intent, NoHistory, TakeUp, Wake
from ..codec import JournalCodec
from ..errors import idempotency_conflict, node_unavailable, not_found
from ..llm.answers import Completion, Ending, PricedEvaluation
from ..llm.billing_alarms import billing_alarms
from ..llm.intents import Evaluate, Work
from ..llm.missing_usage import usage_in_place
from ..llm.prompts import work_overhead_bytes
from ..money import ZERO, Msat
from ..payments import payout_flow
from ..payments.intents import IssueInvoice, LookUpInvoice, LookUpPayout, ResolveRefund, SendPayout
from ..payments.invoices import Invoice, Settle, ShowInvoice
from ..payments.routing_fees import RoutingFees
from ..pricing import NO_USAGE, MissingUsage, Terms, Usage, charge_msat, quote, tariff_of
from ..quotes import quote_memo
from ..receipts import GetJobReceipt
from ..webhooks import Notify
from . import attempts, payments, receipt, refund
from . import notices as job_notices
from . import sums as job_sums
from .evolve import evolve
from .state import (
    FINAL_STATES,
    CreateJob,
    EvaluationCost,
    GetJob,
    Job,
    JobAccepted,
    JobCompleted,
    JobEvent,
    JobOpened,
    JobRejected,
    JobView,
    PlanJobPayout,
    RefundJob,
    Step,
    StepKind,
    WatchJob,
    WorkInvoiceIssued,
    view,
)

_CODEC: Final[JournalCodec[Event]] = JournalCodec(JobEvent)
_SNAPSHOTS: Final[JournalCodec[Job]] = JournalCodec(Job)

# The Idempotency-Key that made an unpaid job is kept at least a day; after two days no client asks for the job.
KEEP_UNPAID_MS: Final = 48 * 3_600_000
"""Retention in ms of an unpaid job, after its last write or its invoice's expiry."""


class JobTerms(msgspec.Struct, frozen=True):
    """The operator's terms for jobs: prices, models, fee, and limits.

    `eval_expiry_s` is the life of the invoice for the evaluation, `invoice_expiry_s` of that for the work.
    """

    terms: Terms
    work_model: str
    eval_fee_sats: int
    eval_expiry_s: int
    invoice_expiry_s: int
    model_attempts: int
    routing_fees: RoutingFees


class JobBehaviour(NoHistory):
    """A job, as pure functions (see `Behaviour`)."""

    def __init__(self, job_terms: JobTerms) -> None:
        self._job_terms = job_terms

    # Commands

    def decide(self, actor_id: str, state: Job | None, command: Command, now_ms: int) -> Decision:
        """Decide what follows from the command in this state."""
        match command:
            case CreateJob():
                return self._create(actor_id, state, command)
            case Done(intent=IssueInvoice(context=CreateJob()) as order):
                return self._open(actor_id, state, order, command.result, now_ms)
            case Failed(intent=IssueInvoice(context=CreateJob()) as order):
                return Decision(answers={order.key: node_unavailable(command.retry_after_ms)})
        if state is None:
            return Decision(reply=not_found("job"))
        match command:
            case GetJob() | GetJobReceipt() | ShowInvoice():
                return self._shown(actor_id, state, command)
            case WatchJob():
                return Decision(watch=True)
            case Settle():
                return payments.settle(actor_id, state, command, now_ms)
            case Wake():
                return _wake(actor_id, state, self._job_terms.routing_fees, now_ms)
            case TakeUp():
                return self._take_up(actor_id, state, now_ms)
            case PlanJobPayout() | RefundJob():
                return refund.decide(actor_id, state, command, self._job_terms.routing_fees, now_ms)
            case Done() | Failed():
                return self._outcome(actor_id, state, command, now_ms)
        return Decision(reply=not_found("command of a job"))

    def _shown(self, job_id: str, job: Job, command: GetJob | GetJobReceipt | ShowInvoice) -> Decision:
        match command:
            case GetJob():
                return Decision(reply=self.view(job_id, job))
            case GetJobReceipt():
                return Decision(reply=receipt.receipt(job_id, job))
            case ShowInvoice():
                return payments.shown(job, command)

    def _outcome(self, job_id: str, job: Job, command: Done | Failed, now_ms: int) -> Decision:
        match command:
            case Done(intent=SendPayout() | LookUpPayout()) | Failed(intent=SendPayout() | LookUpPayout()):
                return refund.paid_out(job_id, job, command, self._job_terms.routing_fees, now_ms)
            case Done(intent=ResolveRefund()) | Failed(intent=ResolveRefund()):
                return refund.resolved(job, command, self._job_terms.routing_fees, now_ms)
            case Done(intent=Notify()) | Failed(intent=Notify()):
                told = webhooks.outcome(job.outbox, command, now_ms)
                return NOTHING if told is None else Decision((told,))
            case Done(intent=LookUpInvoice(payment_hash=payment_hash)):
                return payments.looked_up(job_id, job, payment_hash, command.result, now_ms)
            case Done():
                return self._step_done(job, command, now_ms)
            case Failed():
                terms = self._job_terms
                # An evaluation that was paid for waits for the model as long as work does.
                patience_ms = (terms.invoice_expiry_s - terms.eval_expiry_s) * 1_000
                return attempts.failed(job, command, terms.model_attempts, patience_ms, now_ms)

    def _create(self, job_id: str, job: Job | None, command: CreateJob) -> Decision:
        if job is not None:
            return Decision(reply=self.view(job_id, job) if command.made(job) else idempotency_conflict())
        # The body is part of the topic. A client that sends another body under the same key meanwhile must not get
        # the invoice of this one.
        url = "" if command.webhook is None else command.webhook.url
        ordered = f"{url} {command.refund_to or ''} {command.request}"
        topic = f"open:{hashlib.sha256(ordered.encode()).hexdigest()}"
        order = IssueInvoice(
            key=topic,
            amount_sats=self._job_terms.eval_fee_sats,
            memo="Satmeter: evaluation of a request",
            expiry_s=self._job_terms.eval_expiry_s,
            actor_id=job_id,
            context=command,
            ahead=True,
        )
        return Decision(wait_for=topic, intents=(order,))

    def _open(self, job_id: str, job: Job | None, order: IssueInvoice, invoice: Invoice, now_ms: int) -> Decision:
        command = order.context
        assert isinstance(command, CreateJob)
        if job is not None:
            same = command.made(job)
            return Decision(answers={order.key: self.view(job_id, job) if same else idempotency_conflict()})
        opened = JobOpened(now_ms, command.request, command.client, invoice, command.webhook, command.refund_to)
        return Decision(events=(opened,), answers={order.key: self.view(job_id, evolve(None, opened))})

    def _take_up(self, job_id: str, job: Job, now_ms: int) -> Decision:
        payout = payout_flow.taken_up(job.refunds, now_ms)
        if payout is not None:
            return Decision(events=(payout,))
        if job.step is None or not job.step.under_way:
            return _wake(job_id, job, self._job_terms.routing_fees, now_ms)
        return Decision(events=(attempts.lost(job, job.step, self._job_terms.model_attempts, now_ms),))

    def _step_done(self, job: Job, done: Done, now_ms: int) -> Decision:
        if not attempts.is_of(job.step, done.intent.key):
            return NOTHING
        match done.result:
            case PricedEvaluation() as priced:
                return self._evaluated(job, priced, now_ms)
            case Invoice() as invoice:
                return Decision(events=(WorkInvoiceIssued(at_ms=now_ms, work_invoice=invoice),))
            case Completion() as completion:
                return self._completed(job, completion, now_ms)
        raise TypeError(f"no step of a job ends with {type(done.result).__name__}")

    def _evaluated(self, job: Job, priced: PricedEvaluation, now_ms: int) -> Decision:
        evaluation = priced.evaluation
        verdict, model, usage = evaluation.verdict, evaluation.model, evaluation.usage
        terms = self._job_terms
        price = terms.terms.models.get(model)
        cost = None
        if price is not None and usage is not None:
            cost = EvaluationCost(price.cost_usd(usage), priced.btc_price.usd)
        if not verdict.accepted:
            rejected = JobRejected(now_ms, verdict.reason, model, usage, cost)
            return Decision((rejected,), alarms=self._alarms(model, usage))
        breakdown = quote(terms.terms, terms.work_model, verdict.size, job.request, priced.btc_price)
        tariff = tariff_of(terms.terms, terms.work_model)
        accepted = JobAccepted(now_ms, verdict.size, verdict.reason, model, usage, breakdown, tariff, cost)
        return Decision((accepted,), alarms=self._alarms(model, usage))

    def _completed(self, job: Job, completion: Completion, now_ms: int) -> Decision:
        assert job.breakdown is not None
        breakdown = job.breakdown
        # The quote binds: prices that changed since apply to later jobs only.
        terms = self._job_terms.terms if job.tariff is None else job.tariff.terms
        usage = completion.usage or self._in_place(job, completion, terms.models[breakdown.model].missing_usage)
        price = ZERO if usage is None else charge_msat(terms, breakdown.model, usage, breakdown.btc_price)
        completed = JobCompleted(
            at_ms=now_ms,
            result=completion.text,
            stop_reason=completion.stop_reason,
            model=completion.model,
            usage=usage or NO_USAGE,
            usage_known=completion.usage is not None,
            cost_usd=Decimal(0) if usage is None else terms.price_usd(breakdown.model, usage),
            charged_msat=min(price, job.work_paid_msat),
            reported=completion.reported,
        )
        return Decision((completed,), alarms=billing_alarms(terms.models[breakdown.model], completion.usage))

    def _in_place(self, job: Job, completion: Completion, rule: MissingUsage | None) -> Usage | None:
        """Return the usage that is charged in place of a missing one: never zero, unless the model's rule says so."""
        assert job.breakdown is not None and job.size is not None
        prompt_bytes = len(job.request.encode()) + work_overhead_bytes()
        return usage_in_place(
            rule,
            Ending.COMPLETE,
            bound=Usage(prompt_bytes, self._job_terms.terms.tiers[job.size].max_tokens),
            given_bytes=max(len(completion.text.encode()), completion.given_bytes),
            estimate=Usage(job.breakdown.estimated_input_tokens, job.breakdown.estimated_output_tokens),
        )

    def _alarms(self, model: str, usage: Usage | None) -> tuple[Alarm, ...]:
        """Return the alarms about an evaluation's bill; none if its model has lost its price since the call."""
        price = self._job_terms.terms.models.get(model)
        return () if price is None else billing_alarms(price, usage)

    # State

    def evolve(self, actor_id: str, state: Job | None, event: Event) -> Job:
        """Return the state after the event. Raises `BooksError`."""
        return evolve(state, event)

    def intents(self, actor_id: str, state: Job) -> Sequence[Intent]:
        """Return the payout, or else the attempt or the try, that must be under way, and first attempts of notices."""
        told = job_notices.attempts(actor_id, state, webhooks.untried(state.outbox))
        return (*self._errands(actor_id, state), *told)

    def _errands(self, actor_id: str, state: Job) -> Sequence[Intent]:
        step = state.step
        if state.refunds.under_way is not None:
            return payout_flow.intents(actor_id, state.refunds, self._job_terms.routing_fees, state.settled)
        if step is None or not step.under_way:
            return refund.tries(state, self._job_terms.routing_fees)
        match step.kind:
            case StepKind.EVALUATE:
                return (Evaluate(key=attempts.key(step), request=state.request),)
            case StepKind.WORK:
                return (self._work(state, step),)
            case StepKind.INVOICE:
                return (self._work_invoice(actor_id, state, step),)

    def _work(self, job: Job, step: Step) -> Work:
        assert job.breakdown is not None and job.size is not None
        max_tokens = self._job_terms.terms.tiers[job.size].max_tokens
        return Work(attempts.key(step), job.request, job.breakdown.model, max_tokens)

    def _work_invoice(self, job_id: str, job: Job, step: Step) -> IssueInvoice:
        assert job.breakdown is not None
        return IssueInvoice(
            key=attempts.key(step),
            amount_sats=job.breakdown.amount_sats,
            memo=quote_memo(job.breakdown),
            expiry_s=self._job_terms.invoice_expiry_s,
            actor_id=job_id,
            for_work=True,
        )

    def liability(self, state: Job | None) -> Msat:
        """Return the amount that the wallet must hold for the job."""
        return ZERO if state is None else state.books.liability

    def sums(self, before: Job | None, events: Sequence[Event], after: Job) -> Mapping[str, int]:
        """Return what the events add to the sums of their hour, see `Behaviour.sums`."""
        return job_sums.sums(before, events, after)

    def done(self, state: Job) -> bool:
        """Return True as defined by `Behaviour.done`; untold notices keep the job going."""
        untold = state.outbox is not None and state.outbox.notices
        payable = state.books.pending or state.books.payable(state.refunds, self._job_terms.routing_fees)
        return bool(state.state in FINAL_STATES and state.books.received and not payable and not untold)

    def due_ms(self, state: Job) -> int | None:
        """Return the next time due: the awaited invoice's expiry, an attempt's time, or now for one under way."""
        own = self._own_due_ms(state)
        times = (
            *webhooks.next_ms(state.outbox),
            *refund.due_ms(state, self._job_terms.routing_fees),
            *(() if own is None else (own,)),
        )
        return min(times, default=None)

    def _own_due_ms(self, state: Job) -> int | None:
        invoice = payments.awaited_invoice(state)
        if invoice is not None:
            return invoice.expires_at_ms + payments.EXPIRY_GRACE_MS
        drop_ms = payments.drop_due_ms(state)
        if drop_ms is not None:
            return drop_ms
        if state.refunds.under_way is not None:
            return state.updated_at_ms
        if state.step is None:
            return None
        # An attempt under way is always due, so that another host finds it should this one die.
        return state.step.retry_at_ms or state.updated_at_ms

    def keep_ms(self, state: Job, now_ms: int) -> int | None:
        """Return the retention of an unpaid job; a job that took money is kept for good."""
        return None if state.books.received else max(state.eval_invoice.expires_at_ms - now_ms, 0) + KEEP_UNPAID_MS

    def view(self, actor_id: str, state: Job) -> JobView:
        """Return the job as its client sees it."""
        return view(actor_id, state, self._job_terms.routing_fees)

    def final(self, state: Job) -> bool:
        """Return True if the job is in a final state."""
        return state.state in FINAL_STATES

    def encode_event(self, event: Event) -> bytes:
        """Encode the event as the journal keeps it."""
        return _CODEC.encode(event)

    def decode_event(self, data: bytes) -> Event:
        """Decode an event of the journal. Raises `UnknownEventError`."""
        return _CODEC.decode(data)

    def encode_state(self, state: Job) -> bytes:
        """Encode the state as a snapshot."""
        return _SNAPSHOTS.encode(state)

    def decode_state(self, data: bytes) -> Job:
        """Decode a state from its snapshot. Raises `UnknownEventError`."""
        return _SNAPSHOTS.decode(data)


def _wake(job_id: str, job: Job, fees: RoutingFees, now_ms: int) -> Decision:
    notices = job_notices.attempts(job_id, job, webhooks.overdue(job.outbox, now_ms))
    invoice = payments.awaited_invoice(job)
    if invoice is not None and now_ms >= invoice.expires_at_ms + payments.EXPIRY_GRACE_MS:
        # The node has the last word: the invoice may have been paid while no host was listening.
        look_up = LookUpInvoice(key=f"look_up:{invoice.payment_hash}", payment_hash=invoice.payment_hash)
        return Decision(intents=(look_up, *notices))
    step = job.step
    if step is not None and step.retry_at_ms is not None and now_ms >= step.retry_at_ms:
        return Decision(events=(attempts.due(step, now_ms),), intents=notices)
    drop_ms = payments.drop_due_ms(job)
    if drop_ms is not None and now_ms >= drop_ms:
        return replace(payments.drop_request(job, now_ms), intents=tuple(notices))
    return Decision(intents=(*refund.overdue(job, fees, now_ms), *notices))

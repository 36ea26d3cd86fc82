"""Payments of a job's two invoices."""

from __future__ import annotations

from typing import Final

from ..behaviour import NOTHING, Decision
from ..errors import not_found
from ..payments.intents import ReleaseUnpaid
from ..payments.invoices import (
    Invoice,
    InvoicePurpose,
    InvoiceState,
    Settle,
    Settled,
    Settlement,
    SettleOutcome,
    ShowInvoice,
    ShownInvoice,
)
from ..receipts import text_digest
from .state import EvalPaid, Job, JobExpired, JobFailed, JobOpened, JobState, RequestDropped, WorkPaid

# A wallet may pay in the invoice's last second, and the node learns of it a little later.
EXPIRY_GRACE_MS: Final = 1_000
"""Delay in ms from an invoice's expiry to the last question about it to the node."""
# A node may report a payment late that it took in time. Later than this, the payment is owed back.
KEEP_TEXT_MS: Final = 60_000
"""Retention in ms of the text of a job that expired without a payment."""
_TOO_LATE: Final = (
    "The payment came so long after the invoice's expiry that the request was not kept any more; it is owed back."
)


def awaited_invoice(job: Job) -> Invoice | None:
    """Return the invoice that the job waits for, if it waits for one."""
    if job.state is JobState.AWAITING_EVAL_PAYMENT:
        return job.eval_invoice
    return job.work_invoice if job.state is JobState.AWAITING_WORK_PAYMENT else None


def looked_up(job_id: str, job: Job, payment_hash: str, settlement: Settlement | None, now_ms: int) -> Decision:
    """Take the node's final word on an expired invoice: settle it, or let the job expire."""
    invoice = awaited_invoice(job)
    if invoice is None or invoice.payment_hash != payment_hash:
        return NOTHING
    if settlement is None:
        return Decision(events=(JobExpired(at_ms=now_ms),))
    return settle(job_id, job, Settle(payment_hash, settlement.amount_msat), now_ms)


def drop_due_ms(job: Job) -> int | None:
    """Return the time at which the text of an expired job is dropped; None for a job whose text is needed, or gone."""
    unpaid = job.state is JobState.EXPIRED and not job.books.received
    return None if job.finished_at_ms is None or job.request_digest or not unpaid else job.finished_at_ms + KEEP_TEXT_MS


def drop_request(job: Job, now_ms: int) -> Decision:
    """Drop the text of an expired job: strangers must not fill the store with what they do not pay for."""
    webhook = None if job.outbox is None else job.outbox.webhook
    refund_to = None if job.refunds.standing is None else job.refunds.standing.destination
    digest = text_digest(job.request)
    opened = JobOpened(job.created_at_ms, "", job.client, job.eval_invoice, webhook, refund_to, digest)
    return Decision((RequestDropped(now_ms, digest),), opening=opened)


def settle(job_id: str, job: Job, command: Settle, now_ms: int) -> Decision:
    """Take a payment, once. An expired job takes it too, because the node says that the money is here.

    It is owed back if the text is not here any more.
    """
    replayed = Decision(reply=Settled(SettleOutcome.REPLAYED))
    applied = Settled(SettleOutcome.APPLIED)
    payment_hash, amount = command.payment_hash, command.amount_msat
    if payment_hash == job.eval_invoice.payment_hash:
        if job.eval_paid:
            return replayed
        paid = EvalPaid(at_ms=now_ms, payment_hash=payment_hash, amount_msat=amount)
        release = ReleaseUnpaid(key="release", client=job.client, actor_id=job_id)
        owed = (JobFailed(now_ms, _TOO_LATE, ours=True),) if job.request_digest else ()
        return Decision((paid, *owed), applied, intents=(release,))
    if job.work_invoice is not None and payment_hash == job.work_invoice.payment_hash:
        if job.work_paid_msat:
            return replayed
        return Decision((WorkPaid(at_ms=now_ms, payment_hash=payment_hash, amount_msat=amount),), applied)
    return Decision(reply=not_found("invoice of this job"))


def shown(job: Job, command: ShowInvoice) -> Decision:
    """Answer with what a stranger may see of one of the job's invoices."""
    both = (
        (job.eval_invoice, InvoicePurpose.EVALUATION, job.eval_paid),
        (job.work_invoice, InvoicePurpose.WORK, bool(job.work_paid_msat)),
    )
    for invoice, purpose, paid in both:
        if invoice is None or not invoice.payment_hash.endswith(command.hash_end):
            continue
        if paid:
            return Decision(reply=ShownInvoice(InvoiceState.PAID, purpose))
        if invoice == awaited_invoice(job):
            return Decision(reply=ShownInvoice(InvoiceState.OPEN, purpose, invoice))
        return Decision(reply=ShownInvoice(InvoiceState.EXPIRED, purpose))
    return Decision(reply=not_found("invoice"))

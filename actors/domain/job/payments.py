"""Payments of a job's two invoices."""

from __future__ import annotations

from typing import Final

from ..behaviour import NOTHING, Decision
from ..errors import not_found
from ..payments.intents import ReleaseUnpaid
from ..payments.invoices import Invoice, Settle, Settled, Settlement, SettleOutcome
from .state import EvalPaid, Job, JobExpired, JobState, WorkPaid

# A wallet may pay in the invoice's last second, and the node learns of it a little later.
EXPIRY_GRACE_MS: Final = 1_000
"""Delay in ms from an invoice's expiry to the last question about it to the node."""


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


def settle(job_id: str, job: Job, command: Settle, now_ms: int) -> Decision:
    """Take a payment, once. An expired job takes it too, because the node says that the money is here."""
    replayed = Decision(reply=Settled(SettleOutcome.REPLAYED))
    applied = Settled(SettleOutcome.APPLIED)
    payment_hash, amount = command.payment_hash, command.amount_msat
    if payment_hash == job.eval_invoice.payment_hash:
        if job.eval_paid:
            return replayed
        paid = EvalPaid(at_ms=now_ms, payment_hash=payment_hash, amount_msat=amount)
        release = ReleaseUnpaid(key="release", client=job.client, actor_id=job_id)
        return Decision((paid,), applied, intents=(release,))
    if job.work_invoice is not None and payment_hash == job.work_invoice.payment_hash:
        if job.work_paid_msat:
            return replayed
        return Decision((WorkPaid(at_ms=now_ms, payment_hash=payment_hash, amount_msat=amount),), applied)
    return Decision(reply=not_found("invoice of this job"))

"""The receipt of a job, made of the job's state alone."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from ..errors import Code, Refusal, not_yet, wrong_state
from ..money import ZERO, Msat
from ..pricing import NO_USAGE
from ..receipts import Receipt, text_digest
from .state import FINAL_STATES, Job, JobState

_UNDER_WAY: Final = frozenset({JobState.EVALUATING, JobState.EXECUTING})


def receipt(job_id: str, job: Job) -> Receipt | Refusal:
    """Return the receipt, or why there is none, or none yet."""
    if job.state not in FINAL_STATES:
        refuse = not_yet if job.state in _UNDER_WAY else wrong_state
        return refuse(job.state, "The job has not ended: its receipt is there when it has.")
    if not job.books.received:
        return Refusal(Code.NOT_FOUND, "Nothing was paid for this job, so there is no receipt.")
    if job.finished_at_ms is None or (job.ledger is not None and job.tariff is None):
        return Refusal(Code.NOT_FOUND, "This job was done before receipts were kept.")
    answer = job.result if job.state is JobState.COMPLETE else job.reason
    charged = Receipt(
        job_id=job_id,
        state=job.state.value,
        at_ms=job.finished_at_ms,
        request_digest=job.request_digest or text_digest(job.request),
        answer_digest=None if answer is None else text_digest(answer),
        charged_msat=ZERO,
        limit_msat=job.work_paid_msat,
        evaluation_fee_msat=_evaluation_fee(job),
    )
    if job.ledger is None:
        return charged
    return _of_work(charged, job)


def _of_work(charged: Receipt, job: Job) -> Receipt:
    assert job.ledger is not None and job.breakdown is not None
    return replace(
        charged,
        tariff=job.tariff,
        btc_price=job.breakdown.btc_price,
        # Of work that nothing is taken for, not even the infrastructure is charged.
        work_usage=None if job.ledger.usage == NO_USAGE else job.ledger.usage,
        cost_usd=job.ledger.cost_usd,
        charged_msat=job.ledger.charged_msat,
        work_reported=job.work_reported,
    )


def _evaluation_fee(job: Job) -> Msat:
    """Return the evaluation's fee if a verdict earned it, by a rejection or a price; else zero.

    The fee is given back when the work then failed by our fault.
    """
    delivered = job.state is JobState.REJECTED or (job.work_invoice is not None and not job.evaluation_returned)
    return Msat.from_sats(job.eval_invoice.amount_sats) if delivered else ZERO

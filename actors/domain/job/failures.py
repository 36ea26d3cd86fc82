"""Failures of a job: the messages for its client, and the refunds that they entail."""

from __future__ import annotations

from typing import Final

from ..money import ZERO, Msat
from .state import Job, JobFailed, StepKind

_EVALUATION_OWED: Final = "The evaluation fee is owed to you."
_BOTH_OWED: Final = "What you paid for it, and for its evaluation, is owed to you."
_EVALUATION_OUTLASTED: Final = f"The model was away for as long as the evaluation's invoice lived. {_EVALUATION_OWED}"
_FAILURES: Final = {
    StepKind.EVALUATE: f"The model could not evaluate this request. {_EVALUATION_OWED}",
    StepKind.INVOICE: f"The Lightning node could not make an invoice for the work. {_EVALUATION_OWED}",
    StepKind.WORK: f"The model could not do this work. {_BOTH_OWED}",
}
_OUTLASTED: Final = {
    StepKind.EVALUATE: _EVALUATION_OUTLASTED,
    StepKind.INVOICE: _EVALUATION_OUTLASTED,
    StepKind.WORK: f"The model was away for as long as the work's invoice lived. {_BOTH_OWED}",
}
_OF_REQUEST: Final = (
    "The model refuses to do this work. What you paid for it is owed to you; the fee of its evaluation is kept."
)


def failure(job: Job, kind: StepKind, now_ms: int, *, of_request: bool = False, outlasted: bool = False) -> JobFailed:
    """Return the event of a step that failed for good.

    `of_request`: the model refuses this work for any client. `outlasted`: the model was away for too long.
    """
    if of_request and kind is StepKind.WORK:
        return JobFailed(now_ms, _OF_REQUEST)
    delivered = _kept_of_evaluation(job) if kind is StepKind.WORK else ZERO
    message = (_OUTLASTED if outlasted else _FAILURES)[kind]
    return JobFailed(now_ms, message, ours=True, evaluation_returned_msat=min(delivered, job.books.spent))


def _kept_of_evaluation(job: Job) -> Msat:
    """Return the evaluation's fee and what was paid beyond it, if that is under a satoshi and so is not owed yet."""
    fee, paid = Msat.from_sats(job.eval_invoice.amount_sats), job.books.received - job.work_paid_msat
    return paid if paid < fee + Msat.from_sats(1) else fee

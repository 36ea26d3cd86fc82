"""JSON models of a job's replies."""

from __future__ import annotations

from ...actors.domain.job import state
from ...actors.domain.job.state import JobState, JobView
from ...actors.domain.money import usd_text
from ...actors.domain.quotes import quoted
from ...actors.domain.timestamps import timestamp
from ..payments.pay_pages import PayPages
from ..payments.schemas import CostLedger, WebhookMade, WithdrawLink
from ..payments.views import refund
from . import schemas


def job_created(
    view: JobView, pages: PayPages, webhook: WebhookMade | None, *, of_previous_key: bool
) -> schemas.JobCreated:
    """Return the answer to the client that made the job. A repeated request gets the same, whatever the job's state."""
    notice = (
        f"The evaluation costs {view.eval_invoice.amount_sats} sats, which are kept if the request is rejected; "
        "the work is priced after it and paid on its own."
    )
    return schemas.JobCreated(
        job_id=view.job_id,
        state=JobState.AWAITING_EVAL_PAYMENT,
        eval_invoice=pages.view(view.job_id, view.eval_invoice, of_previous_key=of_previous_key),
        notice=notice,
        webhook=webhook,
    )


def job_status(view: JobView, pages: PayPages, withdraw: WithdrawLink | None = None) -> schemas.JobStatus:
    """Return the job's status for its client."""
    breakdown = view.breakdown
    return schemas.JobStatus(
        job_id=view.job_id,
        state=view.state,
        created_at=timestamp(view.created_at_ms),
        updated_at=timestamp(view.updated_at_ms),
        eval_invoice=pages.view(view.job_id, view.eval_invoice),
        work_invoice=pages.view(view.job_id, view.work_invoice) if view.work_invoice is not None else None,
        pricing_breakdown=None if breakdown is None else schemas.PricingBreakdown.model_validate(quoted(breakdown)),
        reason=view.reason if view.state is JobState.REJECTED else None,
        result=view.result,
        error_message=view.error_message if view.state is JobState.FAILED else None,
        cost_ledger=_ledger(view.ledger) if view.ledger is not None else None,
        refund=refund(view.refund, withdraw) if view.refund is not None else None,
        waiting_for="model" if view.waits_for_model else None,
    )


def _ledger(ledger: state.CostLedger) -> CostLedger:
    usage = ledger.usage
    return CostLedger(
        model=ledger.model,
        actual_input_tokens=usage.input_tokens,
        actual_output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        actual_cost_usd=usd_text(ledger.cost_usd),
        charged_msat=ledger.charged_msat.value,
        paid_msat=ledger.paid_msat.value,
        refund_msat=ledger.refund_msat.value,
    )

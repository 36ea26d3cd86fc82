"""Schemas of jobs: every body that is taken or given under /jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ...actors.domain.job.state import JobState
from ...actors.domain.pricing import PriceOrigin
from ..payments.schemas import CostLedger, JobWebhook, Refund, RefundTo, WebhookMade
from ..schema import NOT_BLANK, NOT_NULL, REQUEST_CHARS_MAX, Absent, Count, Invoice, Percent, Timestamp, Usd, Wire

JobId = Annotated[
    str, Field(pattern="^job_[A-Za-z0-9_-]{32}$", description="Opaque. A client that knows it sees the job.")
]


class NewJob(Wire):
    """A request to be evaluated, priced and done."""

    # A misspelt field must not be dropped in silence.
    model_config = ConfigDict(extra="forbid", strict=True)

    request: Annotated[
        str, Field(min_length=1, max_length=REQUEST_CHARS_MAX, pattern=NOT_BLANK, description="What is to be done.")
    ]
    webhook: Annotated[JobWebhook | None, NOT_NULL] = None
    refund_to: Annotated[RefundTo | None, NOT_NULL] = None


class JobCreated(Wire):
    """A new job, which waits for the payment of its evaluation."""

    job_id: JobId
    state: Literal[JobState.AWAITING_EVAL_PAYMENT]
    eval_invoice: Invoice
    notice: Annotated[str, Field(description="What becomes of the evaluation fee.")]
    webhook: WebhookMade | Absent = None


class PricingBreakdown(Wire):
    """The calculation of the work's price.

    `amountSats = max(1, ceil((modelCostUsd + infraCostUsd) * (1 + marginPct/100) / btcPriceUsd * 1e8))`. It binds the
    server: the work invoice's description ends in `sha256:` and the digest, in hex, of this object by RFC 8785.
    """

    model: str
    estimated_input_tokens: Count
    estimated_output_tokens: Count
    model_cost_usd: Usd
    infra_cost_usd: Usd
    estimated_cost_usd: Usd
    margin_pct: Percent
    btc_price_usd: Usd
    btc_price_source: PriceOrigin
    btc_price_at: Timestamp
    amount_sats: Annotated[int, Field(ge=1)]


class JobStatus(Wire):
    """A job. Which fields are there depends on its state."""

    job_id: JobId
    state: JobState
    created_at: Timestamp
    updated_at: Timestamp
    eval_invoice: Invoice
    work_invoice: Invoice | Absent = None
    pricing_breakdown: PricingBreakdown | Absent = None
    reason: Annotated[str | Absent, Field(description="Why the request was rejected.")] = None
    result: Annotated[str | Absent, Field(description="The work.")] = None
    error_message: Annotated[str | Absent, Field(description="What failed.")] = None
    cost_ledger: CostLedger | Absent = None
    refund: Refund | Absent = None
    waiting_for: Annotated[
        Literal["model"] | Absent,
        Field(description="The model is away: the job goes on when it is back, within the life of what was paid for."),
    ] = None

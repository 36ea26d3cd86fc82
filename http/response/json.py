"""JSON answers from actors' replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

from ...actors.domain import pricing
from ...actors.domain.job import state
from ...actors.domain.job.state import JobState, JobView
from ...actors.domain.money import usd_text
from ...actors.domain.payments import invoices, payouts
from ...actors.domain.payments.payouts import PayoutRefusal
from ...actors.domain.quotes import quoted
from ...actors.domain.timestamps import timestamp
from .. import schema

_PAYOUT_FAILED: Final = "The last payout failed for certain, and what it was for is owed again: send another invoice."
_PAYOUT_REFUSED: Final = (
    "That is this server's fault and not your invoice's: its operator is notified, what is owed stays owed, and the "
    "same invoice may be sent again later."
)
_WHY: Final = {
    PayoutRefusal.KEY: "The Lightning node does not let this server pay anything out.",
    PayoutRefusal.FUNDS: "The server's wallet holds too little for the last payout.",
    PayoutRefusal.RULES: "The Lightning node has a rule against the last payout.",
}
# Decimals as JSON numbers with all their digits.
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def encode(model: BaseModel) -> bytes:
    """Return the model's JSON, without the fields that don't apply."""
    return _ENCODER.encode(model.model_dump(by_alias=True, exclude_none=True))


def json_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer that no cache may store."""
    return Response(encode(model), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def head_only(media_type: str) -> Response:
    """Return the answer to a HEAD whose GET would cost a model call or never end."""
    response = Response(headers={"Cache-Control": "no-store"}, media_type=media_type)
    # Starlette sets 0, but the length of the GET's body is unknown.
    del response.headers["content-length"]
    return response


def job_created(view: JobView, webhook: schema.WebhookMade | None) -> schema.JobCreated:
    """Return the answer to the client that made the job. A repeated request gets the same, whatever the job's state."""
    notice = (
        f"The evaluation costs {view.eval_invoice.amount_sats} sats, which are kept if the request is rejected; "
        "the work is priced after it and paid on its own."
    )
    return schema.JobCreated(
        job_id=view.job_id,
        state=JobState.AWAITING_EVAL_PAYMENT,
        eval_invoice=invoice(view.eval_invoice),
        notice=notice,
        webhook=webhook,
    )


def job_status(view: JobView) -> schema.JobStatus:
    """Return the job's status for its client."""
    breakdown = view.breakdown
    return schema.JobStatus(
        job_id=view.job_id,
        state=view.state,
        created_at=timestamp(view.created_at_ms),
        updated_at=timestamp(view.updated_at_ms),
        eval_invoice=invoice(view.eval_invoice),
        work_invoice=invoice(view.work_invoice) if view.work_invoice is not None else None,
        pricing_breakdown=None if breakdown is None else schema.PricingBreakdown.model_validate(quoted(breakdown)),
        reason=view.reason if view.state is JobState.REJECTED else None,
        result=view.result,
        error_message=view.error_message if view.state is JobState.FAILED else None,
        cost_ledger=_ledger(view.ledger) if view.ledger is not None else None,
        refund=refund(view.refund) if view.refund is not None else None,
        waiting_for="model" if view.waits_for_model else None,
    )


def invoice(shown: invoices.Invoice) -> schema.Invoice:
    """Return the JSON model of an invoice."""
    return schema.Invoice(
        payment_request=shown.payment_request,
        payment_hash=shown.payment_hash,
        amount_sats=shown.amount_sats,
        expires_at=timestamp(shown.expires_at_ms),
    )


def _ledger(ledger: state.CostLedger) -> schema.CostLedger:
    usage = ledger.usage
    return schema.CostLedger(
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


def refund(shown: payouts.RefundView) -> schema.Refund:
    """Return the JSON model of a refund: the amounts owed and paid, and the failure of the last payout, if any."""
    owing = schema.Refund(
        owed_msat=shown.owed_msat.value,
        paid_msat=shown.paid_msat.value,
        payable_sats=shown.payable_sats,
        state=shown.state,
    )
    if not shown.failed:
        return owing
    if shown.refusal is None:
        return owing.model_copy(update={"failure": _PAYOUT_FAILED, "failure_code": "payment_failed"})
    failure = f"{_WHY[shown.refusal]} {_PAYOUT_REFUSED}"
    return owing.model_copy(update={"failure": failure, "failure_code": "server_cannot_pay"})


def btc_price(price: pricing.BtcPrice, now_ms: int) -> schema.BtcPrice:
    """Return the exchange rate with its age."""
    return schema.BtcPrice(
        usd=usd_text(price.usd),
        source=price.origin,
        at=timestamp(price.at_ms),
        # The clocks of two machines differ: the age of a price must not be negative.
        age_s=max(0, now_ms - price.at_ms) // 1_000,
    )


def model_rates(price: pricing.ModelPrice) -> schema.ModelRates:
    """Return a model's rates."""
    long = price.long_prompt
    return schema.ModelRates(
        model=price.model,
        rates=schema.Rates(**rates(price.rates)),
        long_prompt_rates=None
        if long is None
        else schema.LongPromptRates(threshold_tokens=long.threshold_tokens, **rates(long.rates)),
        multipliers={name: format(factor, "f") for name, factor in price.multipliers.items()} or None,
    )


def rates(of_model: pricing.Rates) -> dict[str, str]:
    """Return the fields of `schemas.Rates`."""
    return {
        "input": usd_text(of_model.input),
        "output": usd_text(of_model.output),
        "cache_read": usd_text(of_model.cache_read),
        "cache_write_5m": usd_text(of_model.cache_write_5m),
        "cache_write_1h": usd_text(of_model.cache_write_1h),
    }


def tier(estimates: pricing.Tier) -> schema.Tier:
    """Return the token estimates of one size of work."""
    return schema.Tier(
        input_tokens=estimates.input_tokens,
        output_tokens=estimates.output_tokens,
        max_tokens=estimates.max_tokens,
    )

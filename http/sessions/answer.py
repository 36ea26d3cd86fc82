"""Answers to sessions' requests, encoded directly to JSON, as they are the most frequent answers.

The pydantic models of the same names describe them in the OpenAPI document, but take five times as long to build.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...actors.domain.errors import Code, Refusal
from ...actors.domain.llm.answers import Ending
from ...actors.domain.money import Msat, usd_text
from ...actors.domain.session.messages import RequestAnswer, RequestCost

_LEFT: Final = "cancelled"
_BROKEN: Final = (
    "The model provider failed in the middle of the answer; what it had given until then was charged, and the rest of "
    "what was on hold is released."
)
_BROKEN_FREE: Final = "The model provider failed in the middle of the answer; nothing was charged for it."


class CostLedger(msgspec.Struct, frozen=True, rename="camel"):
    """The cost of a request; see `http.payments.schemas.CostLedger`."""

    model: str
    actual_input_tokens: int
    actual_output_tokens: int
    total_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    actual_cost_usd: str
    evaluation_cost_usd: str
    charged_msat: int
    paid_msat: int
    refund_msat: int


class RequestResult(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The result of a request; see `schemas.RequestResult`."""

    request_id: str
    state: str
    model: str
    max_tokens: int
    cost_ledger: CostLedger
    debited_msat: int
    balance_msat: int
    balance_sats: int
    result: str | None = None
    reason: str | None = None
    stop_reason: str | None = None


class Piece(msgspec.Struct, frozen=True):
    """The data of a `delta` event."""

    text: str


_ENCODER: Final = msgspec.json.Encoder()
encode: Final = _ENCODER.encode


def result_of(answer: RequestAnswer) -> RequestResult:
    """Return the answer, or the reason of the rejection. Call `broken` first."""
    rejected, left = answer.ending is Ending.REJECTED, answer.ending is Ending.LEFT
    return RequestResult(
        request_id=answer.request_id,
        state="rejected" if rejected else "complete",
        model=answer.model,
        max_tokens=answer.max_tokens,
        cost_ledger=_ledger(answer.cost),
        debited_msat=answer.cost.debit_msat.value,
        balance_msat=answer.balance_msat.value,
        balance_sats=answer.balance_msat.whole_sats,
        result=None if rejected else answer.text,
        reason=answer.reason,
        stop_reason=_LEFT if left else answer.stop_reason,
    )


def broken(answer: RequestAnswer) -> Refusal | None:
    """Return the refusal if the model failed during the answer, else None."""
    if answer.ending is not Ending.BROKEN:
        return None
    return broken_refusal(answer.request_id, answer.cost.debit_msat, answer.balance_msat)


def broken_refusal(request_id: str, debit: Msat, balance: Msat) -> Refusal:
    """Return the refusal after the beginning of an answer. `request_id` is that of the charged request.

    A repeated request has the id of the first.
    """
    details = {"requestId": request_id, "debitedMsat": debit.value, "balanceMsat": balance.value}
    return Refusal(Code.MODEL_FAILED, _BROKEN if debit.value else _BROKEN_FREE, details)


def _ledger(cost: RequestCost) -> CostLedger:
    usage = cost.usage
    return CostLedger(
        model=cost.model,
        actual_input_tokens=usage.input_tokens,
        actual_output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        actual_cost_usd=usd_text(cost.cost_usd),
        evaluation_cost_usd=usd_text(cost.evaluation_cost_usd),
        charged_msat=cost.debit_msat.value,
        paid_msat=cost.held_msat.value,
        refund_msat=cost.held_msat.value - cost.debit_msat.value,
    )

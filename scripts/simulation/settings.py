"""Prices and limits of a run."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from ...actors.domain.job.behaviour import JobTerms
from ...actors.domain.money import Msat
from ...actors.domain.payments.routing_fees import RoutingFees
from ...actors.domain.pricing import BtcPrice, MissingUsage, ModelPrice, PriceOrigin, Rates, Size, Terms, Tier
from ...actors.domain.session.pricing import SessionTerms
from .patching import START_MS

WORK_MODEL: Final = "sonnet"
EVAL_MODEL: Final = "haiku"
_RATES: Final = Rates(Decimal(2), Decimal(10), Decimal("0.1"), Decimal("2.5"), Decimal(4))
TERMS: Final = Terms(
    models={name: ModelPrice(name, _RATES) for name in (WORK_MODEL, EVAL_MODEL)},
    tiers={size: Tier(300, 500, 2_000) for size in Size},
    margin_pct=Decimal(40),
    infra_usd=Decimal("0.0005"),
)
FEES: Final = RoutingFees(per_million=10_000, least_msat=Msat.from_sats(2))
JOB_TERMS: Final = JobTerms(
    terms=TERMS,
    work_model=WORK_MODEL,
    eval_fee_sats=10,
    eval_expiry_s=60,
    invoice_expiry_s=60,
    model_attempts=3,
    routing_fees=FEES,
)
SESSION_TERMS: Final = SessionTerms(
    terms=TERMS,
    eval_model=EVAL_MODEL,
    eval_overhead_tokens=300,
    eval_max_tokens=200,
    work_overhead_tokens=50,
    least_tokens=100,
    default_tokens=1_000,
    most_tokens=4_000,
    life_ms=150_000,
    invoice_expiry_s=60,
    pending_max=5,
    routing_fees=FEES,
)
BTC: Final = BtcPrice(Decimal(100_000), PriceOrigin.COINGECKO, START_MS)


def job_terms(rule: MissingUsage | None) -> JobTerms:
    """Return the terms of jobs, with this charge for an answer without a usage."""
    return JOB_TERMS if rule is None else replace(JOB_TERMS, terms=_with(rule))


def session_terms(rule: MissingUsage | None) -> SessionTerms:
    """Return the terms of sessions, as `job_terms`."""
    return SESSION_TERMS if rule is None else replace(SESSION_TERMS, terms=_with(rule))


def _with(rule: MissingUsage) -> Terms:
    return replace(TERMS, models={name: replace(price, missing_usage=rule) for name, price in TERMS.models.items()})

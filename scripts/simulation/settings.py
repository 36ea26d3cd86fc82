"""Prices and limits of a run."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ...actors.domain.job.behaviour import JobTerms
from ...actors.domain.pricing import BtcPrice, ModelPrice, PriceOrigin, Rates, Size, Terms, Tier
from ...actors.domain.session.pricing import SessionTerms
from .patching import START_MS

_RATES: Final = Rates(Decimal(2), Decimal(10), Decimal("0.1"), Decimal("2.5"), Decimal(4))
TERMS: Final = Terms(
    models={"sonnet": ModelPrice("sonnet", _RATES), "haiku": ModelPrice("haiku", _RATES)},
    tiers={size: Tier(300, 500, 2_000) for size in Size},
    margin_pct=Decimal(40),
    infra_usd=Decimal("0.0005"),
)
JOB_TERMS: Final = JobTerms(terms=TERMS, work_model="sonnet", eval_fee_sats=10, invoice_expiry_s=60, model_attempts=3)
SESSION_TERMS: Final = SessionTerms(
    terms=TERMS,
    eval_model="haiku",
    eval_overhead_tokens=300,
    eval_max_tokens=200,
    work_overhead_tokens=50,
    least_tokens=100,
    default_tokens=1_000,
    most_tokens=4_000,
    life_ms=150_000,
    invoice_expiry_s=60,
    pending_max=5,
)
BTC: Final = BtcPrice(Decimal(100_000), PriceOrigin.COINGECKO, START_MS)

"""Operator's prices and terms, made of the settings: hosts charge by them, fronts say what a request takes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Final

from ..config.settings import DEFAULT_TIERS, Settings, TierTokens
from .adapters.lightning.fees import fees_of
from .adapters.lightning_backends import backend_of
from .catalogue.loading import model_catalogue
from .catalogue.tables import CatalogueError
from .domain.llm.catalogue import ModelEntry
from .domain.llm.prompts import EVALUATION_MAX_TOKENS, evaluation_overhead_bytes, work_overhead_bytes
from .domain.payments.routing_fees import RoutingFees
from .domain.pricing import ModelPrice, Size, Terms, Tier
from .domain.session.pricing import SessionTerms

# A month's cost over a month's requests need not end; it is cut here, upwards, so that the figure shown is exact.
_INFRA_PLACES: Final = Decimal("1e-10")
# A provider may add tokens to a prompt of ours, unseen: its own framing of roles and of a schema.
_UNSEEN_TOKENS: Final = 1_000
# About thirty words: with less, an answer is not worth its price.
_LEAST_TOKENS: Final = 64


def model_prices(settings: Settings) -> Mapping[str, ModelPrice]:
    """Return the prices of all models by their names. Raises `CatalogueError`."""
    return model_catalogue(settings).prices


def own_models(settings: Settings) -> tuple[ModelEntry, ModelEntry]:
    """Return the models that evaluate and that work, which the settings may name by an alias.

    Raises `CatalogueError`.
    """
    catalogue, found, faults = model_catalogue(settings), [], []
    for variable, name in (("EVAL_MODEL", settings.eval_model), ("WORK_MODEL", settings.work_model)):
        entry = catalogue.find(name)
        if entry is None:
            known = ", ".join(entry.name for entry in catalogue.models())
            faults.append((variable, f"There is no model {name} with a price: add it, or set one of {known}."))
        else:
            found.append(entry)
    if faults:
        raise CatalogueError(faults)
    evaluator, worker = found
    return evaluator, worker


def pricing_terms(settings: Settings) -> Terms:
    """Return the operator's prices for the domain. Raises `CatalogueError`."""
    monthly = settings.infra_usd_per_month / settings.requests_per_month
    _, worker = own_models(settings)
    return Terms(
        models=model_prices(settings),
        tiers={Size(name): _tier(tier, worker) for name, tier in {**DEFAULT_TIERS, **settings.tiers}.items()},
        margin_pct=settings.margin_pct,
        infra_usd=monthly.quantize(_INFRA_PLACES, rounding=ROUND_CEILING),
    )


def _tier(tier: TierTokens, worker: ModelEntry) -> Tier:
    """Return the token estimates of a job, of which no answer is longer than the model's longest."""
    most = worker.max_output_tokens or tier.max_tokens
    return Tier(tier.input_tokens, min(tier.output_tokens, most), min(tier.max_tokens, most))


def routing_fees(settings: Settings) -> RoutingFees:
    """Return the node's rule for the reserve of a payout's route, with the operator's figures in its place."""
    return fees_of(backend_of(settings).fees, settings)


def session_terms(settings: Settings) -> SessionTerms:
    """Return the terms of a session. Raises `CatalogueError`."""
    evaluator, _ = own_models(settings)
    return SessionTerms(
        terms=pricing_terms(settings),
        eval_model=evaluator.name,
        # A text never has more tokens than bytes, with any tokenizer.
        eval_overhead_tokens=evaluation_overhead_bytes() + _UNSEEN_TOKENS,
        eval_max_tokens=EVALUATION_MAX_TOKENS,
        work_overhead_tokens=work_overhead_bytes() + _UNSEEN_TOKENS,
        least_tokens=_LEAST_TOKENS,
        default_tokens=settings.session_tokens,
        most_tokens=max(settings.session_tokens, settings.session_tokens_max),
        life_ms=settings.session_life_s * 1_000,
        invoice_expiry_s=settings.invoice_expiry_s,
        pending_max=settings.session_invoices_max,
        routing_fees=routing_fees(settings),
    )

"""Prices of models, read from their tables."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from ..domain.pricing import NO_FEE, LongPrompt, MissingUsage, ModelPrice, Rates
from .tables import Table

LONG_PROMPT: Final = "long_prompt"
MULTIPLIERS: Final = "multipliers"
PER_REQUEST: Final = "per_request"
MISSING_USAGE: Final = "missing_usage"
WEB_SEARCH: Final = "web_search_per_1000"
PRICE_KEYS: Final = frozenset(
    {*Rates.__struct_fields__, LONG_PROMPT, MULTIPLIERS, PER_REQUEST, MISSING_USAGE, WEB_SEARCH}
)
_THRESHOLD: Final = "threshold_tokens"
# Bounds within which all arithmetic on rates is exact; no provider's price comes near them.
_RATE_MAX_USD: Final = Decimal(1_000_000)
_RATE_PLACES_MAX: Final = 12
_MULTIPLIER_MAX: Final = Decimal(100)
_FACTOR_PLACES_MAX: Final = 4
TOKENS_MAX: Final = 100_000_000


def price_of(model: str, table: Table, missing_usage: MissingUsage | None = None) -> ModelPrice:
    """Return a model's price; the table notes the faults. `missing_usage` counts where the table names none."""
    long_prompt, multipliers = table.table(LONG_PROMPT), table.table(MULTIPLIERS)
    fee = table.figure(PER_REQUEST, _RATE_MAX_USD, _RATE_PLACES_MAX)
    return ModelPrice(
        model=model,
        rates=_rates(table),
        long_prompt=None if long_prompt is None else _long_prompt(long_prompt),
        multipliers={} if multipliers is None else _multipliers(multipliers),
        per_request=fee or NO_FEE,
        missing_usage=table.choice(MISSING_USAGE, MissingUsage) if table.has(MISSING_USAGE) else missing_usage,
        web_search_per_1000=table.figure(WEB_SEARCH, _RATE_MAX_USD, _RATE_PLACES_MAX)
        if table.has(WEB_SEARCH)
        else None,
    )


def laid_over(table: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's table with single figures replaced, also those of the tables inside it."""
    merged = {**table, **override}
    for name in (LONG_PROMPT, MULTIPLIERS):
        below, above = table.get(name), override.get(name)
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            merged[name] = {**below, **above}
    return merged


def _rates(table: Table) -> Rates:
    table.lacks(Rates.__struct_fields__)
    figures = {name: table.figure(name, _RATE_MAX_USD, _RATE_PLACES_MAX) for name in Rates.__struct_fields__}
    return Rates(**figures)


def _long_prompt(table: Table) -> LongPrompt:
    table.only({*Rates.__struct_fields__, _THRESHOLD})
    threshold = table.whole(_THRESHOLD, least=1, most=TOKENS_MAX, required=True)
    return LongPrompt(threshold or 1, _rates(table))


def _multipliers(table: Table) -> dict[str, Decimal]:
    return {name: table.figure(name, _MULTIPLIER_MAX, _FACTOR_PLACES_MAX, least=1) for name in table.found}

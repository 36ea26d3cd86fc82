"""Rates of models: a TOML file, with the environment's figures laid over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from .domain.pricing import LongPrompt, ModelPrice, Rates

_LONG_PROMPT: Final = "long_prompt"
_THRESHOLD: Final = "threshold_tokens"
_MULTIPLIERS: Final = "multipliers"
# Bounds within which all arithmetic on rates is exact; no provider's price comes near them.
_RATE_MAX_USD: Final = Decimal(1_000_000)
_RATE_PLACES_MAX: Final = 12
_MULTIPLIER_MAX: Final = 100
_FACTOR_PLACES_MAX: Final = 4


def load_prices(path: Path | None, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, ModelPrice]:
    """Return prices by model, in dollars for a million tokens, with the overrides laid over the file's figures.

    Raises `ValueError` that names the model and the figure that is missing, unknown or not a usable number, and
    `OSError` when the file can't be read.
    """
    tables = tomllib.loads(_text(path), parse_float=Decimal)
    for model, override in overrides.items():
        tables[model] = _laid_over(tables.get(model, {}), override)
    return {model: _price(model, table) for model, table in tables.items()}


def _text(path: Path | None) -> str:
    source = path if path is not None else files("satmeter.config").joinpath("rates.toml")
    return source.read_text(encoding="utf-8")


def _laid_over(table: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**table, **override}
    for name in (_LONG_PROMPT, _MULTIPLIERS):
        below, above = table.get(name), override.get(name)
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            merged[name] = {**below, **above}
    return merged


def _price(model: str, table: Any) -> ModelPrice:
    figures = _figures(model, table, {*Rates.__struct_fields__, _LONG_PROMPT, _MULTIPLIERS})
    long_prompt, multipliers = figures.pop(_LONG_PROMPT, None), figures.pop(_MULTIPLIERS, {})
    return ModelPrice(
        model=model,
        rates=_rates(model, figures),
        long_prompt=None if long_prompt is None else _long_prompt(f"{model}.{_LONG_PROMPT}", long_prompt),
        multipliers=_multipliers(model, multipliers),
    )


def _multipliers(model: str, table: Any) -> dict[str, Decimal]:
    if not isinstance(table, Mapping):
        raise ValueError(f"rates of model {model!r}: {_MULTIPLIERS} must be a table of figures")
    found: dict[str, Decimal] = {}
    for name, value in table.items():
        try:
            factor = Decimal(str(value))
        except InvalidOperation:
            factor = Decimal("NaN")
        if not factor.is_finite() or not 1 <= factor <= _MULTIPLIER_MAX or factor != round(factor, _FACTOR_PLACES_MAX):
            raise ValueError(
                f"rates of model {model!r}: multiplier {name!r} must be from 1 to {_MULTIPLIER_MAX} with at most "
                f"{_FACTOR_PLACES_MAX} decimal places"
            )
        found[name] = factor
    return found


def _long_prompt(name: str, table: Any) -> LongPrompt:
    figures = _figures(name, table, {*Rates.__struct_fields__, _THRESHOLD})
    threshold_tokens = figures.pop(_THRESHOLD, None)
    if type(threshold_tokens) is not int or threshold_tokens < 1:
        raise ValueError(f"rates of model {name!r}: {_THRESHOLD} must be a positive whole number")
    return LongPrompt(threshold_tokens, _rates(name, figures))


def _figures(name: str, table: Any, known: set[str]) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ValueError(f"rates of model {name!r}: a table of figures is expected")
    # A misspelt figure must not leave the one that was meant at its old value.
    unknown = sorted(set(table) - known)
    if unknown:
        raise ValueError(f"rates of model {name!r}: unknown figure {unknown[0]!r}")
    return dict(table)


def _rates(name: str, figures: Mapping[str, Any]) -> Rates:
    try:
        # Numbers are allowed in JSON overrides; by way of their text they stay the decimals that were written.
        rates = msgspec.convert({field: str(value) for field, value in figures.items()}, Rates)
    except msgspec.ValidationError as error:
        raise ValueError(f"rates of model {name!r}: {error}") from None
    for field, rate in msgspec.structs.asdict(rates).items():
        if not _is_usable(rate):
            raise ValueError(
                f"rates of model {name!r}: {field} must be from 0 to {_RATE_MAX_USD} with at most "
                f"{_RATE_PLACES_MAX} decimal places"
            )
    return rates


def _is_usable(rate: Decimal) -> bool:
    if not rate.is_finite() or rate.is_signed() or rate > _RATE_MAX_USD:
        return False
    return rate == round(rate, _RATE_PLACES_MAX)

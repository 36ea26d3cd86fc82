"""Reads the rates of models: a TOML file, and what the environment lays over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from ..actors.domain.pricing import LongPrompt, ModelPrice, Rates


def load_prices(path: Path | None, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, ModelPrice]:
    """Prices by model. Raises `ValueError` that names the model and the figure that is missing or not a number."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(_text(path))
    for model, override in overrides.items():
        tables[model] = {**tables.get(model, {}), **override}
    return {model: _price(model, table) for model, table in tables.items()}


def _text(path: Path | None) -> str:
    return path.read_text() if path else files("satmeter.config").joinpath("rates.toml").read_text()


def _price(model: str, table: Mapping[str, Any]) -> ModelPrice:
    long_prompt = table.get("long_prompt")
    return ModelPrice(
        model=model,
        rates=_rates(model, table),
        long_prompt=None
        if long_prompt is None
        else LongPrompt(int(long_prompt["threshold_tokens"]), _rates(f"{model}.long_prompt", long_prompt)),
    )


def _rates(name: str, table: Mapping[str, Any]) -> Rates:
    figures = {field: table[field] for field in Rates.__struct_fields__ if field in table}
    try:
        # Numbers are allowed in JSON overrides; by way of their text they stay the decimals that were written.
        rates = msgspec.convert({field: str(value) for field, value in figures.items()}, Rates)
    except msgspec.ValidationError as error:
        raise ValueError(f"rates of model {name!r}: {error}") from None
    if any(not rate.is_finite() or rate < 0 for rate in msgspec.structs.astuple(rates)):
        raise ValueError(f"rates of model {name!r}: a rate must not be negative")
    return rates

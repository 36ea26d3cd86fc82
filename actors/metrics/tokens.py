"""Tokens of model calls, and what providers take for them, by the catalogue's models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from msgspec.structs import replace
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from ..domain.money import EXACT
from ..domain.pricing import NO_USAGE, ModelPrice, Usage

OTHER: Final = "other"
"""Label of a model that the catalogue does not have: journals and quotes of before may name one."""


class ModelTokens:
    """Tokens of one model. The price of plain calls is computed of their sums, when it is asked for.

    To price each call took a host more time than all else that it counts of it.
    """

    def __init__(self, price: ModelPrice | None) -> None:
        self._price = price
        self._threshold = None if price is None or price.long_prompt is None else price.long_prompt.threshold_tokens
        self._plain_calls = 0
        self._input = self._output = self._read = self._write_5m = self._write_1h = 0
        self._others = NO_USAGE
        self._others_usd = Decimal(0)

    def add(self, usage: Usage) -> None:
        """Count the tokens of a call."""
        threshold = self._threshold
        if usage.billed_as or usage.web_searches or (threshold is not None and usage.prompt_tokens > threshold):
            self._others = _sum(self._others, usage)
            if self._price is not None:
                self._others_usd = EXACT.add(self._others_usd, self._price.cost_usd(usage))
            return
        self._plain_calls += 1
        self._input += usage.input_tokens
        self._output += usage.output_tokens
        self._read += usage.cache_read_tokens
        self._write_5m += usage.cache_write_5m_tokens
        self._write_1h += usage.cache_write_1h_tokens

    @property
    def tokens(self) -> Usage:
        """Tokens of all calls."""
        return _sum(self._plain, self._others)

    @property
    def cost_usd(self) -> Decimal | None:
        """Price of all calls; None for a model without a price."""
        if self._price is None:
            return None
        price = replace(self._price, long_prompt=None)
        fees = EXACT.multiply(price.per_request, self._plain_calls - 1)
        return EXACT.add(self._others_usd, EXACT.add(price.cost_usd(self._plain), fees))

    @property
    def _plain(self) -> Usage:
        return Usage(self._input, self._output, self._read, self._write_5m, self._write_1h)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cache_read_tokens + other.cache_read_tokens,
        one.cache_write_5m_tokens + other.cache_write_5m_tokens,
        one.cache_write_1h_tokens + other.cache_write_1h_tokens,
    )


class TokenCollector(Collector):
    """Tokens of all models that were called."""

    def __init__(self, prices: Mapping[str, ModelPrice]) -> None:
        self._prices = prices
        self._models: dict[str, ModelTokens] = {}

    def add(self, model: str, usage: Usage) -> None:
        """Count the tokens of a call to a model."""
        found = self._models.get(model)
        if found is None:
            name = model if model in self._prices else OTHER
            found = self._models.setdefault(name, ModelTokens(self._prices.get(name)))
        found.add(usage)

    def collect(self) -> Iterable[Metric]:
        """Return the tokens and their cost."""
        tokens = CounterMetricFamily("satmeter_tokens", "Tokens of model calls.", labels=["model", "kind"])
        cost = CounterMetricFamily(
            "satmeter_model_cost_usd", "US dollars of model calls, by the catalogue.", labels=["model"]
        )
        for model, counts in self._models.items():
            usage = counts.tokens
            tokens.add_metric([model, "input"], usage.input_tokens)
            tokens.add_metric([model, "output"], usage.output_tokens)
            tokens.add_metric([model, "cache_read"], usage.cache_read_tokens)
            tokens.add_metric([model, "cache_write"], usage.cache_write_tokens)
            if (usd := counts.cost_usd) is not None:
                cost.add_metric([model], float(usd))
        return [tokens, cost]

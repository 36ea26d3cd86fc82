"""Prices of work: rates per model, infrastructure, margin, and the exchange rate, in exact decimals.

A price is estimated before the work (`quote`) and computed from the actual usage after it (`charge_msat`). Both go
through the same formula and are rounded once, up.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from .money import EXACT, Msat, usd_to_msat, usd_to_sats

_MTOK: Final = Decimal(1_000_000)
_PERCENT: Final = Decimal(100)
_SEARCHES: Final = Decimal(1_000)
NO_FEE: Final = Decimal(0)
"""The `per_request` of most models. One object, as the encoder leaves a default out only when it is the same object."""
# English text has about 2.5 bytes for a token (source: Anthropic's models overview, 1M tokens to 2.5M characters; the
# models before Claude Opus 4.7 had four), and other scripts seldom fewer than two. The client gets an excess of the
# estimate back after the work; a shortfall is our loss.
BYTES_PER_TOKEN: Final = 2


class Size(StrEnum):
    """Sizes of work, as the evaluation judges a request."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class MissingUsage(StrEnum):
    """The charge for an answer without a readable usage: its bound, our own count of its texts, or nothing."""

    BOUND = "bound"
    COUNT = "count"
    NOTHING = "nothing"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the provider counts them. `input_tokens` excludes both cache kinds.

    Source: Anthropic's Messages API, "usage" object; cache writes have two lifetimes with rates of their own.
    `billed_as` names options that the provider bills apart from the plain rates, such as `inference_geo_us`.
    `web_searches`: those that the provider ran, and bills by a fee of their own.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    billed_as: tuple[str, ...] = ()
    web_searches: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the whole prompt, cached or not, as a long-prompt threshold counts them."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def cache_write_tokens(self) -> int:
        """Cache writes of both lifetimes."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens


NO_USAGE: Final = Usage(0, 0)
"""The usage of an answer that is taken nothing for."""


class Rates(msgspec.Struct, frozen=True):
    """US dollars for a million tokens of each kind."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal

    def times(self, factor: Decimal) -> Rates:
        """Return all rates multiplied by the factor."""
        return Rates(*(EXACT.multiply(rate, factor) for rate in msgspec.structs.astuple(self)))


class LongPrompt(msgspec.Struct, frozen=True):
    """Rates for the whole request once its prompt has more than `threshold_tokens`."""

    threshold_tokens: int
    rates: Rates


class ModelPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model and its rates. `multipliers` apply to all its rates, by the names in a usage's `billed_as`.

    `per_request` is in US dollars for each call, beside its tokens, and `web_search_per_1000` for a thousand searches,
    None where searches are not offered. No multiplier applies to either. `missing_usage` says what an answer without a
    usage costs; None stands for an estimate.
    """

    model: str
    rates: Rates
    long_prompt: LongPrompt | None = None
    multipliers: Mapping[str, Decimal] = {}
    per_request: Decimal = NO_FEE
    missing_usage: MissingUsage | None = None
    web_search_per_1000: Decimal | None = None

    def rates_for(self, usage: Usage) -> Rates:
        """Return the rates that apply to this usage."""
        rates = self.rates
        if self.long_prompt is not None and usage.prompt_tokens > self.long_prompt.threshold_tokens:
            rates = self.long_prompt.rates
        for name in usage.billed_as:
            if name in self.multipliers:
                rates = rates.times(self.multipliers[name])
        return rates

    def cost_usd(self, usage: Usage) -> Decimal:
        """Return the provider's price of this usage, exact."""
        rates = self.rates_for(usage)
        cost = EXACT.multiply(rates.input, usage.input_tokens)
        for rate, tokens in (
            (rates.output, usage.output_tokens),
            (rates.cache_read, usage.cache_read_tokens),
            (rates.cache_write_5m, usage.cache_write_5m_tokens),
            (rates.cache_write_1h, usage.cache_write_1h_tokens),
        ):
            if tokens:
                cost = EXACT.fma(rate, tokens, cost)
        return EXACT.add(EXACT.divide(cost, _MTOK), EXACT.add(self.per_request, self.searches_usd(usage)))

    def searches_usd(self, usage: Usage) -> Decimal:
        """Return the fee for the searches of this usage."""
        if self.web_search_per_1000 is None or not usage.web_searches:
            return NO_FEE
        return EXACT.divide(EXACT.multiply(self.web_search_per_1000, usage.web_searches), _SEARCHES)


class Tier(msgspec.Struct, frozen=True):
    """Token estimates for one size of work.

    `input_tokens` is the least that is assumed for the prompt; `output_tokens` is what the price assumes;
    `max_tokens` is where the model is stopped, and so bounds what a wrong estimate can cost us.
    """

    input_tokens: int
    output_tokens: int
    max_tokens: int


class Terms(msgspec.Struct, frozen=True):
    """The operator's prices: all that a price depends on, except the request and the exchange rate."""

    models: Mapping[str, ModelPrice]
    tiers: Mapping[Size, Tier]
    margin_pct: Decimal
    infra_usd: Decimal
    """Infrastructure for one request, in dollars."""

    def price_usd(self, model: str, usage: Usage) -> Decimal:
        """Return the price of model and infrastructure together, before margin."""
        return EXACT.add(self.models[model].cost_usd(usage), self.infra_usd)

    def with_margin(self, cost_usd: Decimal) -> Decimal:
        """Return a cost with the margin added."""
        return EXACT.multiply(cost_usd, EXACT.add(1, EXACT.divide(self.margin_pct, _PERCENT)))


class Tariff(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of the operator's prices that one charge depends on, as it was in force: journals keep it.

    `evaluator` is the model that judged the request, where the judging is charged as well.
    """

    model: ModelPrice
    margin_pct: Decimal
    infra_usd: Decimal
    evaluator: ModelPrice | None = None

    @property
    def terms(self) -> Terms:
        """The tariff as terms to compute with; they have no tiers."""
        prices = [self.model] if self.evaluator is None else [self.evaluator, self.model]
        return Terms({price.model: price for price in prices}, {}, self.margin_pct, self.infra_usd)


def tariff_of(terms: Terms, model: str, evaluator: str | None = None) -> Tariff:
    """Return the tariff for work by one model, judged by another if an evaluator is named."""
    judge = None if evaluator is None else terms.models[evaluator]
    return Tariff(terms.models[model], terms.margin_pct, terms.infra_usd, judge)


class PriceOrigin(StrEnum):
    """Origins of a BTC price."""

    COINGECKO = "coingecko"
    FALLBACK = "fallback"


class BtcPrice(msgspec.Struct, frozen=True):
    """The price of one bitcoin in dollars, its origin, and when it was fetched (milliseconds since the epoch)."""

    usd: Decimal
    origin: PriceOrigin
    at_ms: int


class PricingBreakdown(msgspec.Struct, frozen=True):
    """The breakdown of a work invoice's amount, with all values that are needed to compute it again."""

    model: str
    estimated_input_tokens: int
    estimated_output_tokens: int
    model_cost_usd: Decimal
    infra_cost_usd: Decimal
    margin_pct: Decimal
    btc_price: BtcPrice
    amount_sats: int

    @property
    def estimated_cost_usd(self) -> Decimal:
        """Estimated cost of model and infrastructure together, before margin."""
        return EXACT.add(self.model_cost_usd, self.infra_cost_usd)


def estimate_usage(terms: Terms, size: Size, request: str) -> Usage:
    """Estimate the tokens of a request of this size, before the work."""
    tier = terms.tiers[size]
    text_tokens = -(-len(request.encode()) // BYTES_PER_TOKEN)
    return Usage(input_tokens=max(tier.input_tokens, text_tokens), output_tokens=tier.output_tokens)


def quote(terms: Terms, model: str, size: Size, request: str, btc_price: BtcPrice) -> PricingBreakdown:
    """Quote the price of work before it is done: whole sats, rounded up once, at least 1."""
    usage = estimate_usage(terms, size, request)
    model_cost_usd = terms.models[model].cost_usd(usage)
    price_usd = terms.with_margin(terms.price_usd(model, usage))
    return PricingBreakdown(
        model=model,
        estimated_input_tokens=usage.input_tokens,
        estimated_output_tokens=usage.output_tokens,
        model_cost_usd=model_cost_usd,
        infra_cost_usd=terms.infra_usd,
        margin_pct=terms.margin_pct,
        btc_price=btc_price,
        amount_sats=usd_to_sats(price_usd, btc_price.usd),
    )


def charge_msat(terms: Terms, model: str, usage: Usage, btc_price: BtcPrice) -> Msat:
    """Return the price of work that was done, with infrastructure and margin, rounded up to the millisatoshi."""
    return usd_to_msat(terms.with_margin(terms.price_usd(model, usage)), btc_price.usd)


def million_msat(terms: Terms, rate_usd: Decimal, btc_price: BtcPrice) -> Msat:
    """Return a client's price of a million tokens at this rate, with margin, rounded up to the millisatoshi."""
    return usd_to_msat(terms.with_margin(rate_usd), btc_price.usd)


def request_msat(terms: Terms, btc_price: BtcPrice, per_request: Decimal = NO_FEE) -> Msat:
    """Return a client's price of each request beside its tokens, rounded up.

    It is infrastructure and the model's price for each call, with margin.
    """
    return usd_to_msat(terms.with_margin(EXACT.add(terms.infra_usd, per_request)), btc_price.usd)

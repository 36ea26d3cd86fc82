"""What work costs: rates per model, infrastructure, margin, and the exchange rate, in exact decimals.

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
# English text has about 2.5 bytes for a token (source: Anthropic's models overview, 1M tokens to 2.5M characters; the
# models before Claude Opus 4.7 had four), and other scripts seldom fewer than two. What the estimate has too much is
# given back after the work; what it has too little is our loss.
_BYTES_PER_TOKEN: Final = 2


class Size(StrEnum):
    """How much work the evaluation takes a request for."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the provider counts them. `input_tokens` excludes both cache kinds.

    Source: Anthropic's Messages API, "usage" object; cache writes have two lifetimes with rates of their own.
    `billed_as` names what the provider bills apart from the plain rates, such as `inference_geo_us`.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    billed_as: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        """All that was read as a prompt, cached or not: what a long-prompt threshold counts."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def cache_write_tokens(self) -> int:
        """Cache writes of both lifetimes."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens


class Rates(msgspec.Struct, frozen=True):
    """US dollars for a million tokens of each kind."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal

    def times(self, factor: Decimal) -> Rates:
        """All of them, multiplied."""
        return Rates(*(EXACT.multiply(rate, factor) for rate in msgspec.structs.astuple(self)))


class LongPrompt(msgspec.Struct, frozen=True):
    """Rates for the whole request once its prompt has more than `threshold_tokens`."""

    threshold_tokens: int
    rates: Rates


class ModelPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model and what it costs. `multipliers` of all its rates, by what a usage is `billed_as`."""

    model: str
    rates: Rates
    long_prompt: LongPrompt | None = None
    multipliers: Mapping[str, Decimal] = {}

    def rates_for(self, usage: Usage) -> Rates:
        """The rates that apply to this usage."""
        rates = self.rates
        if self.long_prompt is not None and usage.prompt_tokens > self.long_prompt.threshold_tokens:
            rates = self.long_prompt.rates
        for name in usage.billed_as:
            if name in self.multipliers:
                rates = rates.times(self.multipliers[name])
        return rates

    def cost_usd(self, usage: Usage) -> Decimal:
        """The provider's price of this usage, exact."""
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
        return EXACT.divide(cost, _MTOK)


class Tier(msgspec.Struct, frozen=True):
    """Token estimates for one size of work.

    `input_tokens` is the least that is assumed for the prompt; `output_tokens` is what the price assumes;
    `max_tokens` is where the model is stopped, and so bounds what a wrong estimate can cost us.
    """

    input_tokens: int
    output_tokens: int
    max_tokens: int


class Terms(msgspec.Struct, frozen=True):
    """The operator's prices: everything a price depends on but the request and the exchange rate."""

    models: Mapping[str, ModelPrice]
    tiers: Mapping[Size, Tier]
    margin_pct: Decimal
    infra_usd: Decimal
    """Infrastructure for one request, in dollars."""

    def price_usd(self, model: str, usage: Usage) -> Decimal:
        """Model and infrastructure together, before margin."""
        return EXACT.add(self.models[model].cost_usd(usage), self.infra_usd)

    def with_margin(self, cost_usd: Decimal) -> Decimal:
        """A cost with the margin on it."""
        return EXACT.multiply(cost_usd, EXACT.add(1, EXACT.divide(self.margin_pct, _PERCENT)))


class Tariff(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of the operator's prices that one charge depends on, as it was in force: journals keep it.

    `evaluator` is the model that judged the request, where that is charged as well.
    """

    model: ModelPrice
    margin_pct: Decimal
    infra_usd: Decimal
    evaluator: ModelPrice | None = None

    @property
    def terms(self) -> Terms:
        """Prices to compute with."""
        prices = [self.model] if self.evaluator is None else [self.evaluator, self.model]
        return Terms({price.model: price for price in prices}, {}, self.margin_pct, self.infra_usd)


def tariff_of(terms: Terms, model: str, evaluator: str | None = None) -> Tariff:
    """What these terms say of work by one model, and of having it judged by another."""
    judge = None if evaluator is None else terms.models[evaluator]
    return Tariff(terms.models[model], terms.margin_pct, terms.infra_usd, judge)


class PriceOrigin(StrEnum):
    """Where a BTC price came from."""

    COINGECKO = "coingecko"
    FALLBACK = "fallback"


class BtcPrice(msgspec.Struct, frozen=True):
    """The price of one bitcoin in dollars, its origin, and when it was fetched (milliseconds since the epoch)."""

    usd: Decimal
    origin: PriceOrigin
    at_ms: int


class PricingBreakdown(msgspec.Struct, frozen=True):
    """How a work invoice came to its amount. Everything needed to compute it again is in it."""

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
        """Model and infrastructure together, before margin."""
        return EXACT.add(self.model_cost_usd, self.infra_cost_usd)


def estimate_usage(terms: Terms, size: Size, request: str) -> Usage:
    """Tokens assumed for a request of this size, before the work."""
    tier = terms.tiers[size]
    text_tokens = -(-len(request.encode()) // _BYTES_PER_TOKEN)
    return Usage(input_tokens=max(tier.input_tokens, text_tokens), output_tokens=tier.output_tokens)


def quote(terms: Terms, model: str, size: Size, request: str, btc_price: BtcPrice) -> PricingBreakdown:
    """The price of the work before it is done: whole sats, rounded up once, at least 1."""
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
    """The price of work that was done, with infrastructure and margin, rounded up to the millisatoshi."""
    return usd_to_msat(terms.with_margin(terms.price_usd(model, usage)), btc_price.usd)


def million_msat(terms: Terms, rate_usd: Decimal, btc_price: BtcPrice) -> Msat:
    """What a client pays for a million tokens at this rate, with margin, rounded up to the millisatoshi."""
    return usd_to_msat(terms.with_margin(rate_usd), btc_price.usd)


def request_msat(terms: Terms, btc_price: BtcPrice) -> Msat:
    """What a client pays for each request beside its tokens: infrastructure, with margin, rounded up."""
    return usd_to_msat(terms.with_margin(terms.infra_usd), btc_price.usd)

"""Laws of prices: never below cost, rounded once, and never falling with more tokens."""

from __future__ import annotations

from fractions import Fraction
from math import prod

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.money import MSAT_PER_BTC, Msat
from satmeter.actors.domain.pricing import (
    NO_FEE,
    BtcPrice,
    LongPrompt,
    ModelPrice,
    PriceOrigin,
    Rates,
    Size,
    Terms,
    Tier,
    Usage,
    charge_msat,
    million_msat,
    quote,
    request_msat,
)

tokens = st.integers(0, 2_000_000)
rates_usd = st.decimals(0, 1_000, places=12)


@st.composite
def all_rates(draw: st.DrawFn, least: Rates | None = None) -> Rates:
    figures = [draw(rates_usd) for _ in range(5)]
    if least is not None:
        floor = [least.input, least.output, least.cache_read, least.cache_write_5m, least.cache_write_1h]
        figures = [max(pair) for pair in zip(figures, floor, strict=True)]
    return Rates(*figures)


EXTRAS = ["inference_geo_us", "speed_fast", "web_search_requests"]


@st.composite
def all_models(draw: st.DrawFn) -> ModelPrice:
    rates = draw(all_rates())
    # Longer prompts are never cheaper: what makes a price monotone in its tokens.
    long_prompt = draw(st.none() | st.builds(LongPrompt, st.integers(1, 1_000_000), all_rates(rates)))
    factors = st.decimals(1, 100, places=4)
    extras = draw(st.dictionaries(st.sampled_from(EXTRAS), factors))
    fees = st.decimals(0, 1_000, places=12)
    per_request, search = draw(st.just(NO_FEE) | fees), draw(st.none() | fees)
    return ModelPrice("m", rates, long_prompt, extras, per_request, web_search_per_1000=search)


@st.composite
def all_terms(draw: st.DrawFn) -> Terms:
    tier = st.builds(Tier, st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 10_000))
    return Terms(
        models={"m": draw(all_models())},
        tiers={size: draw(tier) for size in Size},
        margin_pct=draw(st.decimals(0, 10_000, places=6)),
        infra_usd=draw(st.decimals(0, 10, places=10)),
    )


extras = st.lists(st.sampled_from(EXTRAS), unique=True).map(tuple)
usages = st.builds(Usage, tokens, tokens, tokens, tokens, tokens, extras, st.integers(0, 1_000))
btc_prices = st.builds(
    BtcPrice, st.decimals(1_000, 10_000_000, places=8), st.sampled_from(PriceOrigin), st.integers(0, 2**45)
)


def _cost(terms: Terms, usage: Usage) -> Fraction:
    model = terms.models["m"]
    is_long = model.long_prompt is not None and usage.prompt_tokens > model.long_prompt.threshold_tokens
    rates = model.long_prompt.rates if model.long_prompt is not None and is_long else model.rates
    by_kind = [
        (rates.input, usage.input_tokens),
        (rates.output, usage.output_tokens),
        (rates.cache_read, usage.cache_read_tokens),
        (rates.cache_write_5m, usage.cache_write_5m_tokens),
        (rates.cache_write_1h, usage.cache_write_1h_tokens),
    ]
    factor = prod((Fraction(model.multipliers.get(name, 1)) for name in usage.billed_as), start=Fraction(1))
    tokens_usd = sum((Fraction(rate) * count for rate, count in by_kind), Fraction(0)) / 1_000_000
    searches_usd = Fraction(model.web_search_per_1000 or 0) * usage.web_searches / 1_000
    return tokens_usd * factor + searches_usd + Fraction(model.per_request) + Fraction(terms.infra_usd)


@given(all_terms(), usages, btc_prices)
def test_a_charge_covers_cost_and_margin_and_is_rounded_up_by_less_than_one_msat(
    terms: Terms, usage: Usage, btc: BtcPrice
) -> None:
    cost_msat = _cost(terms, usage) * MSAT_PER_BTC / Fraction(btc.usd)
    exact_msat = cost_msat * (1 + Fraction(terms.margin_pct) / 100)
    charged = charge_msat(terms, "m", usage, btc).value
    assert charged >= cost_msat
    assert 0 <= charged - exact_msat < 1


@given(all_terms(), usages, usages, btc_prices)
def test_more_tokens_never_cost_less(terms: Terms, usage: Usage, more: Usage, btc: BtcPrice) -> None:
    sum_of_both = Usage(
        usage.input_tokens + more.input_tokens,
        usage.output_tokens + more.output_tokens,
        usage.cache_read_tokens + more.cache_read_tokens,
        usage.cache_write_5m_tokens + more.cache_write_5m_tokens,
        usage.cache_write_1h_tokens + more.cache_write_1h_tokens,
        tuple({*usage.billed_as, *more.billed_as}),
        usage.web_searches + more.web_searches,
    )
    assert charge_msat(terms, "m", usage, btc) <= charge_msat(terms, "m", sum_of_both, btc)


@given(all_terms(), st.sampled_from(Size), st.text(max_size=2_000), btc_prices)
def test_a_quote_can_be_computed_again_from_what_it_says(terms: Terms, size: Size, text: str, btc: BtcPrice) -> None:
    found = quote(terms, "m", size, text, btc)
    price_usd = (Fraction(found.model_cost_usd) + Fraction(found.infra_cost_usd)) * (
        1 + Fraction(found.margin_pct) / 100
    )
    sats = price_usd / Fraction(found.btc_price.usd) * 100_000_000
    assert found.amount_sats == max(1, -(-sats.numerator // sats.denominator))
    assert Fraction(found.estimated_cost_usd) == Fraction(found.model_cost_usd) + Fraction(found.infra_cost_usd)


@given(all_terms(), st.sampled_from(Size), st.text(max_size=2_000), btc_prices)
def test_a_quote_covers_the_charge_for_what_was_estimated(terms: Terms, size: Size, text: str, btc: BtcPrice) -> None:
    found = quote(terms, "m", size, text, btc)
    charged = charge_msat(terms, "m", Usage(found.estimated_input_tokens, found.estimated_output_tokens), btc)
    assert Msat.from_sats(found.amount_sats) >= charged


@given(all_terms(), usages, btc_prices)
def test_the_price_list_is_what_is_charged_but_for_its_rounding_up(terms: Terms, usage: Usage, btc: BtcPrice) -> None:
    usage = msgspec.structs.replace(usage, web_searches=0)
    rates = terms.models["m"].rates_for(usage)
    listed = [million_msat(terms, rate, btc).value for rate in msgspec.structs.astuple(rates)]
    counted = msgspec.structs.astuple(usage)[: len(listed)]
    pieces = sum(
        (Fraction(msat * tokens, 1_000_000) for msat, tokens in zip(listed, counted, strict=True)), Fraction(0)
    )
    most = request_msat(terms, btc, terms.models["m"].per_request).value + pieces
    charged = charge_msat(terms, "m", usage, btc).value
    assert charged < most + 1
    # Each figure of the list is less than one msat above the exact one.
    assert charged > most - 1 - Fraction(sum(counted), 1_000_000)

"""Prices with exact numbers, worked out by hand from the contract's formula."""

from __future__ import annotations

from decimal import Context, Decimal, Inexact, localcontext

import pytest

from satmeter.actors.domain.money import MoneyError, Msat, usd_text, usd_to_msat, usd_to_sats
from satmeter.actors.domain.pricing import (
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
    estimate_usage,
    quote,
)

SONNET = ModelPrice("sonnet", Rates(Decimal(2), Decimal(10), Decimal("0.10"), Decimal("2.50"), Decimal(4)))
HAIKU = ModelPrice(
    "haiku",
    Rates(Decimal("0.10"), Decimal("0.50"), Decimal("0.01"), Decimal("0.125"), Decimal("0.20")),
    LongPrompt(100_000, Rates(Decimal("0.50"), Decimal("2.50"), Decimal("0.05"), Decimal("0.625"), Decimal(1))),
)
TIERS = {
    Size.SMALL: Tier(300, 500, 1_000),
    Size.MEDIUM: Tier(800, 1_500, 3_000),
    Size.LARGE: Tier(2_000, 4_000, 8_000),
}
TERMS = Terms(
    models={"sonnet": SONNET, "haiku": HAIKU}, tiers=TIERS, margin_pct=Decimal(40), infra_usd=Decimal("0.0005")
)
BTC = BtcPrice(Decimal(100_000), PriceOrigin.COINGECKO, 1_800_000_000_000)


@pytest.mark.parametrize(
    ("usage", "cost_usd"),
    [
        (Usage(0, 0), "0"),
        (Usage(1_000_000, 0), "2"),
        (Usage(0, 1_000_000), "10"),
        (Usage(0, 0, cache_read_tokens=1_000_000), "0.1"),
        (Usage(0, 0, cache_write_5m_tokens=1_000_000), "2.5"),
        (Usage(0, 0, cache_write_1h_tokens=1_000_000), "4"),
        (Usage(300, 500), "0.0056"),
        (Usage(1, 1), "0.000012"),
        (Usage(10, 20, 30, 40, 50), "0.000523"),
    ],
)
def test_each_kind_of_token_costs_its_own_rate(usage: Usage, cost_usd: str) -> None:
    assert SONNET.cost_usd(usage) == Decimal(cost_usd)


@pytest.mark.parametrize(
    ("usage", "cost_usd"),
    [
        (Usage(100_000, 1_000), "0.0105"),
        (Usage(100_001, 1_000), "0.0525005"),
        (Usage(1, 0, cache_read_tokens=100_000), "0.0050005"),
        (Usage(0, 0, cache_write_5m_tokens=60_000, cache_write_1h_tokens=40_001), "0.077501"),
        (Usage(0, 200_000), "0.1"),
    ],
)
def test_a_long_prompt_cached_or_not_makes_the_whole_request_dearer(usage: Usage, cost_usd: str) -> None:
    assert HAIKU.cost_usd(usage) == Decimal(cost_usd)


def test_a_quote_follows_the_contracts_formula() -> None:
    found = quote(TERMS, "sonnet", Size.SMALL, "Write a haiku", BTC)
    # 300 x $2 + 500 x $10 for a million tokens, plus $0.0005, plus 40 %: $0.00854, at $100,000 for 100,000,000 sats.
    assert (found.estimated_input_tokens, found.estimated_output_tokens) == (300, 500)
    assert found.model_cost_usd == Decimal("0.0056")
    assert found.infra_cost_usd == Decimal("0.0005")
    assert found.estimated_cost_usd == Decimal("0.0061")
    assert found.amount_sats == 9
    assert (found.model, found.margin_pct, found.btc_price) == ("sonnet", Decimal(40), BTC)


@pytest.mark.parametrize(
    ("size", "amount_sats"),
    [(Size.SMALL, 9), (Size.MEDIUM, 24), (Size.LARGE, 63)],
)
def test_the_size_sets_the_price(size: Size, amount_sats: int) -> None:
    # Medium: ($0.0016 + $0.015 + $0.0005) x 1.4 = $0.02394; large: ($0.004 + $0.04 + $0.0005) x 1.4 = $0.0623.
    assert quote(TERMS, "sonnet", size, "x", BTC).amount_sats == amount_sats


@pytest.mark.parametrize(
    ("price_usd", "sats", "msat"),
    [
        ("0", 1, 0),
        ("0.001", 1, 1_000),
        ("0.0010000000000000000000000000000000001", 2, 1_001),
        ("0.0009999999999999999999999999999999999", 1, 1_000),
        ("0.000001", 1, 1),
        ("0.0000000000000000000000000000000000001", 1, 1),
        ("0.01", 10, 10_000),
        ("100000", 100_000_000, 100_000_000_000),
    ],
)
def test_prices_are_rounded_up_to_the_unit_and_an_invoice_is_at_least_one_sat(
    price_usd: str, sats: int, msat: int
) -> None:
    assert usd_to_sats(Decimal(price_usd), Decimal(100_000)) == sats
    assert usd_to_msat(Decimal(price_usd), Decimal(100_000)) == Msat(msat)


def test_an_exchange_rate_that_does_not_divide_evenly_rounds_up_once() -> None:
    assert usd_to_msat(Decimal(1), Decimal(3)) == Msat(33_333_333_334)
    assert usd_to_sats(Decimal(3), Decimal(3)) == 100_000_000


@pytest.mark.parametrize(
    ("price_usd", "btc_usd"),
    [("-0.01", "1"), ("1", "0"), ("1", "-1"), ("NaN", "1"), ("1", "NaN"), ("Infinity", "1"), ("1", "Infinity")],
)
def test_a_price_that_makes_no_sense_is_refused(price_usd: str, btc_usd: str) -> None:
    with pytest.raises(MoneyError):
        usd_to_msat(Decimal(price_usd), Decimal(btc_usd))
    with pytest.raises(MoneyError):
        usd_to_sats(Decimal(price_usd), Decimal(btc_usd))


def test_more_bitcoin_than_there_is_is_refused() -> None:
    with pytest.raises(MoneyError):
        usd_to_msat(Decimal(21_000_001), Decimal(1))


def test_the_charge_is_the_actual_cost_with_infrastructure_and_margin() -> None:
    # (100 x $2 + 50 x $10) / 1M + $0.0005 = $0.0012, plus 40 % = $0.00168.
    assert charge_msat(TERMS, "sonnet", Usage(100, 50), BTC) == Msat(1_680)


def test_cached_tokens_are_charged_too() -> None:
    # (10 x 2 + 20 x 10 + 30 x 0.1 + 40 x 2.5 + 50 x 4) / 1M = $0.000523; plus $0.0005, plus 40 % = $0.0014322.
    assert charge_msat(TERMS, "sonnet", Usage(10, 20, 30, 40, 50), BTC) == Msat(1_433)


def test_a_long_request_is_estimated_by_its_bytes_and_a_short_one_by_its_tier() -> None:
    assert estimate_usage(TERMS, Size.SMALL, "x" * 600) == Usage(300, 500)
    assert estimate_usage(TERMS, Size.SMALL, "x" * 601) == Usage(301, 500)
    assert estimate_usage(TERMS, Size.SMALL, "é" * 601) == Usage(601, 500)


def test_a_long_prompts_estimate_uses_the_long_prompts_rates() -> None:
    short, long = (quote(TERMS, "haiku", Size.LARGE, "x" * length, BTC) for length in (200_000, 200_002))
    assert short.model_cost_usd == Decimal("0.012")
    assert long.model_cost_usd == Decimal("0.0600005")


def test_costs_stay_exact_whatever_the_processes_decimal_context_is() -> None:
    rate = Decimal("999999.123456789012")
    price = ModelPrice("m", Rates(rate, rate, rate, rate, rate))
    usage = Usage(99_999_999, 99_999_998, 99_999_997, 99_999_996, 99_999_995)
    terms = Terms({"m": price}, TIERS, Decimal("33.333333333333333333"), Decimal("0.0000000001"))
    numerator = 999_999_123_456_789_012 * sum(range(99_999_995, 100_000_000))
    with localcontext(Context(prec=5)):
        cost_usd = price.cost_usd(usage)
        priced_usd = terms.with_margin(terms.price_usd("m", usage))
    assert cost_usd.as_integer_ratio() == Decimal(f"{numerator}e-18").as_integer_ratio()
    with localcontext(Context(prec=200, traps=[Inexact])):
        assert priced_usd == (cost_usd + terms.infra_usd) * (1 + terms.margin_pct / 100)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"),
        ("5", "5.00"),
        ("1E+3", "1000.00"),
        ("0.0056", "0.0056"),
        ("0.00560000", "0.0056"),
        ("1E-10", "0.0000000001"),
        ("67187.33589365526", "67187.33589365526"),
    ],
)
def test_dollars_are_shown_in_plain_digits(amount: str, text: str) -> None:
    assert usd_text(Decimal(amount)) == text

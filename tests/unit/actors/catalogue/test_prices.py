"""The shipped prices, the file of the former format, and what the environment lays over them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from satmeter.actors.catalogue.loading import model_catalogue
from satmeter.actors.catalogue.tables import CatalogueError
from satmeter.actors.domain.pricing import LongPrompt, ModelPrice, Rates, Usage
from satmeter.config.settings import Settings

MINE = {"input": "1", "output": "2", "cache_read": "3", "cache_write_5m": "4", "cache_write_1h": "5"}
MINE_RATES = Rates(Decimal(1), Decimal(2), Decimal(3), Decimal(4), Decimal(5))


def load_prices(path: Path | None, overrides: dict[str, Any]) -> Mapping[str, ModelPrice]:
    return model_catalogue(Settings(rates_file=path, rates=overrides)).prices


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rates.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_rates_are_those_of_the_price_list() -> None:
    prices = load_prices(None, {})
    assert prices["claude-sonnet-5-5"].rates == Rates(
        Decimal(2), Decimal(10), Decimal("0.10"), Decimal("2.50"), Decimal(4)
    )
    haiku = prices["claude-haiku-5-5"]
    assert haiku.rates == Rates(Decimal("0.10"), Decimal("0.50"), Decimal("0.01"), Decimal("0.125"), Decimal("0.20"))
    assert haiku.long_prompt == LongPrompt(
        100_000, Rates(Decimal("0.50"), Decimal("2.50"), Decimal("0.05"), Decimal("0.625"), Decimal(1))
    )
    assert prices["claude-haiku-4-5"].cost_usd(Usage(1_000_000, 1_000_000)) == Decimal(6)
    assert prices["claude-sonnet-5"].rates.cache_read == Decimal("0.20")
    assert prices["claude-opus-5-5"].cost_usd(Usage(1_000_000, 1_000_000)) == Decimal(24)


@pytest.mark.parametrize("model", sorted(load_prices(None, {})))
def test_cache_writes_cost_what_the_provider_multiplies_input_by(model: str) -> None:
    price = load_prices(None, {})[model]
    for rates in [price.rates, *([price.long_prompt.rates] if price.long_prompt else [])]:
        assert rates.cache_write_5m == rates.input * Decimal("1.25")
        assert rates.cache_write_1h == rates.input * 2
        assert rates.cache_read < rates.input < rates.output


def test_a_single_figure_can_be_overridden() -> None:
    price = load_prices(None, {"claude-sonnet-5-5": {"output": "12.5"}})["claude-sonnet-5-5"]
    assert (price.rates.output, price.rates.input) == (Decimal("12.5"), Decimal(2))


def test_a_single_figure_of_a_long_prompt_can_be_overridden() -> None:
    price = load_prices(None, {"claude-haiku-5-5": {"long_prompt": {"input": "0.6"}}})["claude-haiku-5-5"]
    assert price.long_prompt is not None
    assert (price.long_prompt.rates.input, price.long_prompt.rates.output) == (Decimal("0.6"), Decimal("2.50"))
    assert price.long_prompt.threshold_tokens == 100_000


def test_inference_in_the_us_costs_a_tenth_more_where_a_model_offers_it() -> None:
    prices = load_prices(None, {})
    here = Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000)
    there = replace(here, billed_as=("inference_geo_us",))
    for model, price in prices.items():
        factor = 1 if model in ("claude-haiku-4-5", "claude-opus-4-5") else Decimal("1.1")
        assert price.cost_usd(there) == price.cost_usd(here) * factor
    assert prices["claude-sonnet-5-5"].cost_usd(there) == Decimal("20.46")


def test_a_multiplier_can_be_laid_over_or_added() -> None:
    laid = load_prices(None, {"claude-opus-5-5": {"multipliers": {"speed_fast": 2.5}}})["claude-opus-5-5"]
    assert laid.multipliers == {"inference_geo_us": Decimal("1.1"), "speed_fast": Decimal("2.5")}
    assert laid.cost_usd(Usage(1_000_000, 0, billed_as=("speed_fast", "inference_geo_us"))) == Decimal(11)


def test_a_model_can_be_added() -> None:
    assert load_prices(None, {"mine": MINE})["mine"] == ModelPrice("mine", MINE_RATES)


@pytest.mark.parametrize("value", ["0.1", 0.1])
def test_a_figure_may_be_a_text_or_a_number_and_stays_the_decimal_that_was_written(value: Any) -> None:
    assert load_prices(None, {"mine": {**MINE, "input": value}})["mine"].rates.input == Decimal("0.1")


def test_an_own_file_replaces_the_shipped_one_and_its_bare_numbers_lose_no_digit(tmp_path: Path) -> None:
    text = "[mine]\ninput = 1.123456789012\noutput = 2\ncache_read = 3\ncache_write_5m = 4\ncache_write_1h = 5\n"
    prices = load_prices(_file(tmp_path, text), {})
    assert list(prices) == ["mine"]
    assert prices["mine"].rates.input == Decimal("1.123456789012")


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({}, "input"),
        ({key: value for key, value in MINE.items() if key != "output"}, "output"),
        ({**MINE, "ouput": "3"}, "ouput"),
        ({**MINE, "input": "cheap"}, "input"),
        ({**MINE, "input": ""}, "input"),
        ({**MINE, "input": None}, "input"),
        ({**MINE, "input": True}, "input"),
        ({**MINE, "input": "-1"}, "input"),
        ({**MINE, "input": "-0"}, "input"),
        ({**MINE, "input": "NaN"}, "input"),
        ({**MINE, "input": "Infinity"}, "input"),
        ({**MINE, "input": "1000001"}, "input"),
        ({**MINE, "input": "1e999999"}, "input"),
        ({**MINE, "input": "0.0000000000001"}, "input"),
        ({**MINE, "multipliers": 5}, "multipliers"),
        *(
            ({**MINE, "multipliers": {"inference_geo_us": factor}}, "inference_geo_us")
            for factor in ("0.9", "101", "NaN", "dear", "1.00001", None, True)
        ),
        ({**MINE, "long_prompt": 5}, "long_prompt"),
        ({**MINE, "long_prompt": {}}, "threshold_tokens"),
        ({**MINE, "long_prompt": {"threshold_tokens": 5}}, "input"),
        ({**MINE, "long_prompt": {**MINE, "threshold_tokens": 0}}, "threshold_tokens"),
        ({**MINE, "long_prompt": {**MINE, "threshold_tokens": "5"}}, "threshold_tokens"),
        ({**MINE, "long_prompt": {**MINE, "threshold_tokens": 5, "treshold": 1}}, "treshold"),
    ],
)
def test_a_figure_that_is_missing_misspelt_or_unusable_is_named_with_its_model(
    table: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=r"mine") as caught:
        load_prices(None, {"mine": table})
    assert named in str(caught.value)


@pytest.mark.parametrize("text", ["mine = 5", "[mine", "\x00"])
def test_a_file_that_is_not_a_table_of_rates_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):
        load_prices(_file(tmp_path, text), {})


def test_a_missing_file_is_an_error_and_not_the_shipped_rates(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"none\.toml can't be read: No such file"):
        load_prices(tmp_path / "none.toml", {})

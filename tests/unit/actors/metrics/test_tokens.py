"""Tokens and their price: the sum of many calls is what each of them costs, added up."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.money import EXACT
from satmeter.actors.domain.pricing import LongPrompt, ModelPrice, Usage
from satmeter.actors.metrics.tokens import ModelTokens, TokenCollector
from tests.helpers.jobs import RATES, TERMS, USAGE

PRICE = ModelPrice(
    "m",
    RATES,
    long_prompt=LongPrompt(200, RATES.times(Decimal(2))),
    multipliers={"fast": Decimal(3)},
    per_request=Decimal("0.001"),
    web_search_per_1000=Decimal(10),
)
COUNTS = st.integers(0, 500)
USAGES = st.builds(
    Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from([(), ("fast",)]), st.sampled_from([0, 0, 3])
)


@given(st.lists(USAGES, max_size=8), st.sampled_from([PRICE, TERMS.models["haiku"]]))
def test_the_price_of_all_calls_is_the_sum_of_their_prices(usages: list[Usage], price: ModelPrice) -> None:
    counts, total_usd = ModelTokens(price), Decimal(0)
    for usage in usages:
        counts.add(usage)
        total_usd = EXACT.add(total_usd, price.cost_usd(usage))
    assert counts.cost_usd == total_usd
    assert counts.tokens.prompt_tokens == sum(usage.prompt_tokens for usage in usages)
    assert counts.tokens.output_tokens == sum(usage.output_tokens for usage in usages)


def test_names_that_are_not_in_the_catalogue_share_a_series() -> None:
    collector = TokenCollector(TERMS.models)
    for model in ("gone", "lost", "haiku"):
        collector.add(model, USAGE)
    tokens, cost = collector.collect()
    output = {sample.labels["model"]: sample.value for sample in tokens.samples if sample.labels["kind"] == "output"}
    assert output == {"other": 2 * USAGE.output_tokens, "haiku": USAGE.output_tokens}
    assert {sample.labels["model"] for sample in cost.samples} == {"haiku"}

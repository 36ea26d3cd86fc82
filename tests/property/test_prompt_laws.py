"""Laws of the longest prompt that an amount covers: it fits, and one token more does not."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.llm.relays import PromptRate
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import LongPrompt
from satmeter.actors.domain.session.pricing import longest_prompt, worst_of_relay
from satmeter.http.anthropic.token_counts import bound_of
from tests.helpers.relays import relay
from tests.helpers.sessions import SESSION_TERMS


@given(
    allowed=st.integers(0, 10_000_000),
    most=st.integers(0, 2_000_000),
    answer=st.integers(0, 10_000),
    rate=st.sampled_from(PromptRate),
    dear_from=st.none() | st.integers(1, 1_000_000),
)
def test_the_longest_prompt_is_covered_and_one_token_more_is_not(
    allowed: int, most: int, answer: int, rate: PromptRate, dear_from: int | None
) -> None:
    price = SESSION_TERMS.terms.models["sonnet"]
    if dear_from is not None:
        price = replace(price, long_prompt=LongPrompt(dear_from, price.rates.times(Decimal(5))))
    terms = replace(SESSION_TERMS, terms=replace(SESSION_TERMS.terms, models={"sonnet": price, "haiku": price}))
    command = relay(rate=rate)

    def cost(tokens: int) -> Msat:
        return worst_of_relay(terms, replace(command, prompt_tokens_max=bound_of(tokens))).msat(answer)

    found = longest_prompt(terms, command, answer, Msat(allowed), most, bound_of)
    assert 0 <= found <= most
    assert found == 0 or cost(found) <= Msat(allowed)
    assert found == most or cost(found + 1) > Msat(allowed)

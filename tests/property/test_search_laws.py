"""Laws of web searches: the hold covers whatever a call that searches may use, and each search costs its fee."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.llm.intents import RelayRequest
from satmeter.actors.domain.llm.relays import PromptRate
from satmeter.actors.domain.llm.usage import WEB_SEARCHES
from satmeter.actors.domain.pricing import ModelPrice, Usage, charge_msat
from satmeter.actors.domain.session.pricing import relay_usage, worst_of_relay
from satmeter.actors.domain.session.state import Hold
from tests.helpers.jobs import BTC, RATES
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import SESSION_TERMS, once

BOUND_TOKENS = 11 * 200_000
PRICE = ModelPrice("sonnet", RATES, web_search_per_1000=Decimal(10))
TERMS = replace(SESSION_TERMS, terms=replace(SESSION_TERMS.terms, models={"sonnet": PRICE, "haiku": PRICE}))


@st.composite
def searched(draw: st.DrawFn) -> tuple[Usage, int]:
    """A usage within the bounds of a call, and the most searches that the call allows."""
    most = draw(st.integers(1, 100))
    parts = [draw(st.integers(0, BOUND_TOKENS)) for _ in range(3)]
    over = max(1, -(-sum(parts) // BOUND_TOKENS))
    fresh, read, written = (part // over for part in parts)
    usage = Usage(fresh, draw(st.integers(0, 1_000)), read, written, 0, (WEB_SEARCHES,))
    return replace(usage, web_searches=draw(st.integers(0, 3 * most))), most


@given(searched())
def test_the_hold_covers_whatever_the_provider_bills_within_the_bounds(case: tuple[Usage, int]) -> None:
    usage, most = case
    command = replace(
        relay(max_tokens=1_000, tokens=BOUND_TOKENS, rate=PromptRate.CACHE_WRITE_5M),
        web_searches=most,
        billed_as=(WEB_SEARCHES,),
    )
    held = worst_of_relay(TERMS, command).msat(1_000)
    intent = RelayRequest(
        "request:a", command.body, {}, False, False, "sonnet", 1_000, 0, once("a"), (WEB_SEARCHES,), web_searches=most
    )
    hold = Hold(once("a"), "req_a", held, "sonnet", 1_000, BTC, Usage(10, 0), 0)
    charged = relay_usage(TERMS, hold, intent, relayed(usage))
    assert charged is not None and charged.web_searches == min(usage.web_searches, most)
    assert charge_msat(TERMS.terms, "sonnet", charged, BTC) <= held


@pytest.mark.parametrize(
    ("searches", "per_1000", "usd"),
    [(0, "10", "0"), (1, "10", "0.01"), (3, "10.00", "0.03"), (100, "12.345", "1.2345"), (7, "0", "0"), (7, None, "0")],
)
def test_each_search_costs_its_fee_beside_the_tokens(searches: int, per_1000: str | None, usd: str) -> None:
    fee = None if per_1000 is None else Decimal(per_1000)
    price = replace(PRICE, web_search_per_1000=fee, multipliers={"inference_geo_us": Decimal("1.1")})
    usage = Usage(1_000, 100, billed_as=("inference_geo_us",), web_searches=searches)
    assert price.cost_usd(usage) - price.cost_usd(replace(usage, web_searches=0)) == Decimal(usd)

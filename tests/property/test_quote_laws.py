"""Laws of quotes, for all usages and all changes of prices."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.job.behaviour import JobBehaviour
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import ModelPrice, Rates, Usage, charge_msat
from satmeter.actors.domain.timestamps import timestamp
from tests.helpers.jobs import BTC, JOB_TERMS, TERMS, JobBench, completion

decimals = st.decimals(0, 200, places=4)
tokens = st.integers(0, 5_000)
usages = st.builds(Usage, tokens, tokens, tokens, tokens, tokens)


@given(usages, st.builds(Rates, decimals, decimals, decimals, decimals, decimals), decimals, decimals)
def test_what_is_charged_is_the_price_at_the_quote_whatever_the_prices_become(
    usage: Usage, rates: Rates, margin_pct: Decimal, infra_usd: Decimal
) -> None:
    bench = JobBench()
    bench.to_work_invoice()
    terms = replace(TERMS, models={"sonnet": ModelPrice("sonnet", rates)}, margin_pct=margin_pct, infra_usd=infra_usd)
    bench.behaviour = JobBehaviour(replace(JOB_TERMS, terms=terms))
    bench.restart()
    bench.pay_work()
    bench.finish(completion(usage))
    assert bench.state.ledger is not None
    quoted = charge_msat(TERMS, "sonnet", usage, BTC)
    assert bench.state.ledger.charged_msat == min(quoted, Msat(9_000))


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_those_of_the_calendar(at_ms: int) -> None:
    seconds, milliseconds = divmod(at_ms, 1_000)
    assert timestamp(at_ms) == f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z".zfill(24)

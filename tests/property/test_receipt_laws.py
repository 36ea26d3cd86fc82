"""Laws of receipts: each verifies, its price follows from its figures, and no byte of it can be changed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.pricing import NO_FEE, BtcPrice, LongPrompt, ModelPrice, PriceOrigin, Rates, Usage
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.scripts.receipts.quote import MismatchError
from satmeter.scripts.receipts.receipt import check_price, jws_of, verified
from tests.helpers.jobs import BTC, JOB_TERMS, RATES, TERMS, JobBench, completion
from tests.helpers.receipts import SIGNER, of_job, of_request, signed
from tests.helpers.sessions import SESSION_TERMS, SessionBench, ask, completed, rejected

tokens = st.integers(0, 50_000)
extras = st.sampled_from([(), ("inference_geo_us",), ("speed_fast", "inference_geo_us"), ("web_search_requests",)])
usages = st.builds(Usage, tokens, tokens, tokens, tokens, tokens, extras)
# Also with more digits than any price has, and zero.
usd = st.decimals(0, 500, places=6)
rates = st.builds(Rates, usd, usd, usd, usd, usd)
factors = st.dictionaries(st.sampled_from(["inference_geo_us", "speed_fast"]), st.decimals(1, 100, places=4))
long_prompts = st.none() | st.builds(LongPrompt, tokens, rates)
prices = st.builds(ModelPrice, st.just("sonnet"), rates, long_prompts, factors, st.just(NO_FEE) | usd)
rates_of_exchange = st.builds(
    BtcPrice, st.decimals("0.01", 10_000_000, places=2), st.sampled_from(PriceOrigin), st.just(BTC.at_ms)
)
margins = st.decimals(0, 10_000, places=6)


@given(usages, st.none() | usages, prices, margins, usd, rates_of_exchange)
def test_the_price_of_a_request_follows_from_its_receipt(
    judged: Usage, work: Usage | None, price: ModelPrice, margin: Decimal, infra: Decimal, btc_price: BtcPrice
) -> None:
    bench = SessionBench()
    models = {"sonnet": price, "haiku": ModelPrice("haiku", RATES)}
    terms = replace(TERMS, models=models, margin_pct=margin, infra_usd=infra)
    bench.behaviour = SessionBehaviour(replace(SESSION_TERMS, terms=terms))
    bench.fund(10**14)
    bench.send(ask("a", btc_price=btc_price))
    bench.answer(rejected(judged) if work is None else completed(work, judged=judged, ending=Ending.COMPLETE), "a")
    answer = signed(of_request(bench))
    receipt = verified(answer["jws"], {}, SIGNER.key_id)
    assert receipt == answer["receipt"] or receipt["marginPct"] == Decimal(str(answer["receipt"]["marginPct"]))
    check_price(receipt)


@given(usages, prices, margins, usd)
def test_the_price_of_a_job_follows_from_its_receipt(
    usage: Usage, price: ModelPrice, margin: Decimal, infra: Decimal
) -> None:
    bench = JobBench(
        replace(
            JOB_TERMS,
            terms=replace(TERMS, models={"sonnet": price, "haiku": price}, margin_pct=margin, infra_usd=infra),
        )
    )
    bench.to_work_invoice()
    bench.pay_work()
    bench.finish(completion(usage))
    check_price(verified(signed(of_job(bench))["jws"], {}, SIGNER.key_id))


def _jws() -> str:
    bench = SessionBench()
    bench.fund()
    bench.send(ask("a"))
    bench.answer(completed(), "a")
    jws: str = signed(of_request(bench))["jws"]
    return jws


JWS = _jws()


@given(st.integers(0, len(JWS) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_no_byte_of_a_receipt_can_be_changed(place: int, character: str) -> None:
    changed = JWS[:place] + character + JWS[place + 1 :]
    if changed == JWS:
        return
    with pytest.raises(MismatchError):
        verified(changed, {}, SIGNER.key_id)


@given(st.integers(0, len(JWS)), st.text("ABCabc123-_=. \n", min_size=1, max_size=3))
def test_nothing_can_be_put_into_a_receipt(place: int, more: str) -> None:
    jws, _ = jws_of((JWS[:place] + more + JWS[place:]).encode())
    if jws == JWS:
        return  # White space around it, as editors add.
    with pytest.raises(MismatchError):
        verified(jws, {}, SIGNER.key_id)

"""Prices for each call, beside its tokens: they are in holds, debits and receipts, once for each call that was made."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.pricing import ModelPrice, Tariff, Usage
from satmeter.scripts.receipts.quote import MismatchError
from satmeter.scripts.receipts.receipt import check_price
from tests.helpers.jobs import JOB_TERMS, RATES, TERMS, JobBench, completion
from tests.helpers.receipts import of_job, of_request, signed
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import SESSION_TERMS, SessionBench, ask, completed, rejected

# With margin and exchange rate of these tests a dollar is 1,400,000 msat: a call to sonnet costs 1,400, to haiku 2,800.
FEES = {"sonnet": Decimal("0.001"), "haiku": Decimal("0.002")}
PRICES = {name: ModelPrice(name, RATES, per_request=fee) for name, fee in FEES.items()}
WITH_FEES = replace(TERMS, models=PRICES)
USAGE = Usage(100, 50)


@pytest.fixture
def benches() -> tuple[SessionBench, SessionBench]:
    """Two sessions with 100 sats each, the first one's models without a price for each call."""
    found = SessionBench(), SessionBench(replace(SESSION_TERMS, terms=WITH_FEES))
    for bench in found:
        bench.fund(100)
    return found


def _spent(bench: SessionBench) -> int:
    return bench.view().spent_msat.value


def test_a_request_holds_and_pays_the_price_of_both_calls(benches: tuple[SessionBench, SessionBench]) -> None:
    without, with_fees = benches
    for bench in benches:
        bench.send(ask("a", max_tokens=1_000))
    assert with_fees.money()[1] == without.money()[1] + 1_400 + 2_800
    for bench in benches:
        bench.answer(completed(USAGE, judged=USAGE, ending=Ending.COMPLETE), "a")
    assert _spent(with_fees) == _spent(without) + 1_400 + 2_800


def test_a_rejected_request_pays_for_the_evaluations_call_only(benches: tuple[SessionBench, SessionBench]) -> None:
    without, with_fees = benches
    for bench in benches:
        bench.send(ask("a"))
        bench.answer(rejected(USAGE), "a")
    assert _spent(with_fees) == _spent(without) + 2_800


def test_a_relayed_call_pays_for_one_call_and_for_none_if_it_was_refused(
    benches: tuple[SessionBench, SessionBench],
) -> None:
    without, with_fees = benches
    for bench in benches:
        bench.send(relay(max_tokens=1_000))
    assert with_fees.money()[1] == without.money()[1] + 1_400
    for bench in benches:
        bench.answer(relayed(USAGE), "a")
    assert _spent(with_fees) == _spent(without) + 1_400


def test_a_multiplier_leaves_the_price_of_a_call_as_it_is() -> None:
    price = replace(PRICES["sonnet"], multipliers={"fast": Decimal(2)})
    usage = replace(USAGE, billed_as=("fast",))
    assert price.cost_usd(usage) == 2 * (price.cost_usd(USAGE) - FEES["sonnet"]) + FEES["sonnet"]


def test_a_receipt_shows_the_price_of_each_call_and_is_checked_with_it(
    benches: tuple[SessionBench, SessionBench],
) -> None:
    shown = []
    for bench in benches:
        bench.send(ask("a"))
        bench.answer(completed(USAGE, judged=USAGE, ending=Ending.COMPLETE), "a")
        shown.append(signed(of_request(bench))["receipt"])
        check_price(shown[-1])
    fees = [[charge.get("perRequestUsd") for charge in receipt["charges"]] for receipt in shown]
    assert fees == [[None, None], ["0.002", "0.001"]]
    receipt = shown[1]
    receipt["charges"][0]["perRequestUsd"] = "0.003"
    with pytest.raises(MismatchError, match="evaluation costs"):
        check_price(receipt)


def test_a_job_is_quoted_and_charged_with_the_price_of_its_call_at_the_quote() -> None:
    costs, receipts = [], []
    for terms in (TERMS, WITH_FEES):
        bench = JobBench(replace(JOB_TERMS, terms=terms))
        bench.to_work_invoice()
        breakdown = bench.state.breakdown
        assert breakdown is not None
        costs.append(breakdown.model_cost_usd)
        bench.pay_work()
        bench.finish(completion(USAGE))
        receipts.append(signed(of_job(bench))["receipt"])
        check_price(receipts[-1])
    assert costs[1] - costs[0] == FEES["sonnet"]
    assert receipts[1]["charges"][0]["perRequestUsd"] == "0.001"


def test_journals_of_models_without_such_a_price_are_what_they_were() -> None:
    tariff = Tariff(ModelPrice("sonnet", RATES), Decimal(40), Decimal("0.0005"))
    data = msgspec.json.encode(tariff)
    assert b"per_request" not in data
    assert msgspec.json.decode(data, type=Tariff) == tariff
    assert b'"per_request":"0.001"' in msgspec.json.encode(replace(tariff, model=PRICES["sonnet"]))

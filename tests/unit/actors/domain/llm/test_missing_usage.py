"""Charge for answers without a usage: three rules, by relay, ask and job, exact to the msat, and each with its receipt.

A token of input costs 2.8 msat, one of output 14, and infrastructure 700.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.llm.answers import Completion, Ending, RequestOutcome
from satmeter.actors.domain.llm.missing_usage import usage_in_place
from satmeter.actors.domain.llm.prompts import work_overhead_bytes
from satmeter.actors.domain.llm.relays import PromptRate
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import MissingUsage, ModelPrice, Usage
from satmeter.actors.domain.session.messages import Relayed, RequestAnswer
from satmeter.scripts.receipts.receipt import check_price, verified
from tests.helpers.jobs import JOB_TERMS, RATES, TERMS, USAGE, JobBench, completion
from tests.helpers.receipts import SIGNER, of_job, of_request, signed
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import SESSION_TERMS, SessionBench, ask, evaluation

BOUND, COUNT, NOTHING = MissingUsage.BOUND, MissingUsage.COUNT, MissingUsage.NOTHING
RULES = [None, BOUND, COUNT, NOTHING]
INFRA, VERDICT = 700, 3_080
TEXT = "the answer"  # 10 bytes


def terms_of(work: MissingUsage | None, judge: MissingUsage | None = None) -> Any:
    models = {
        "sonnet": ModelPrice("sonnet", RATES, missing_usage=work),
        "haiku": ModelPrice("haiku", RATES, missing_usage=judge),
    }
    return replace(TERMS, models=models)


def session(work: MissingUsage | None, judge: MissingUsage | None = None) -> SessionBench:
    bench = SessionBench(replace(SESSION_TERMS, terms=terms_of(work, judge)))
    bench.fund(100)
    return bench


def price(tokens_in: int, tokens_out: int) -> int:
    return -(-tokens_in * 28 // 10) + tokens_out * 14 + INFRA


def checked(bench: SessionBench) -> None:
    """The receipt of what was charged gives the price, by its own figures."""
    check_price(verified(signed(of_request(bench))["jws"], {}, SIGNER.key_id))


# Relayed calls, with a prompt of at most 300 tokens and an answer of at most 1,000


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("rule", "ending", "msat"),
    [
        (None, Ending.COMPLETE, price(150, 50)),
        (BOUND, Ending.COMPLETE, price(300, 1_000)),
        (COUNT, Ending.COMPLETE, price(300, 200)),
        (NOTHING, Ending.COMPLETE, 0),
        # Broken off, or left by the client: what was used until then.
        (None, Ending.BROKEN, price(150, 50)),
        (BOUND, Ending.BROKEN, price(150, 50)),
        (COUNT, Ending.BROKEN, price(150, 50)),
        (NOTHING, Ending.BROKEN, 0),
        (None, Ending.LEFT, price(150, 50)),
        (BOUND, Ending.LEFT, price(150, 50)),
        (COUNT, Ending.LEFT, price(150, 50)),
        (NOTHING, Ending.LEFT, price(150, 50)),
    ],
)
def test_a_relayed_call_without_a_usage(rule: MissingUsage | None, ending: Ending, msat: int, streamed: bool) -> None:
    bench = session(rule)
    bench.send(relay(tokens=300, stream=streamed))
    held = bench.money()[1]
    outcome = replace(relayed(None, ending, streamed=streamed, given=50), given_bytes=200)
    (reply,) = bench.answer(outcome).answers.values()
    assert isinstance(reply, Relayed) and reply.cost.debit_msat == Msat(msat)
    assert msat <= held and (rule is not BOUND or ending is not Ending.COMPLETE or msat == held)
    assert bench.money() == (100_000 - msat, 0, msat, 0, 0)
    checked(bench)


@pytest.mark.parametrize("rule", RULES)
def test_a_usage_that_is_there_is_charged_under_every_rule(rule: MissingUsage | None) -> None:
    for ending in (Ending.COMPLETE, Ending.BROKEN, Ending.LEFT):
        bench = session(rule)
        bench.send(relay(tokens=300, stream=True))
        bench.answer(relayed(USAGE, ending, streamed=True))
        assert bench.money()[2] == price(100, 200)


@pytest.mark.parametrize("rule", RULES)
def test_a_call_that_was_refused_or_declined_costs_nothing_under_any_rule(rule: MissingUsage | None) -> None:
    for outcome in (relayed(None, status=400, charged=False), relayed(None, charged=False)):
        bench = session(rule)
        bench.send(relay())
        bench.answer(outcome)
        assert bench.money() == (100_000, 0, 0, 0, 0)


@pytest.mark.parametrize("rule", [BOUND, COUNT])
def test_a_call_that_its_client_left_before_anything_came_costs_its_prompt(rule: MissingUsage) -> None:
    bench = session(rule)
    bench.send(relay(tokens=300))
    bench.answer(relayed(None, Ending.LEFT, given=0))
    assert bench.money()[2] == price(150, 0)


def test_the_bound_has_the_dearest_rate_all_choices_and_the_tokens_that_the_balance_covers() -> None:
    bench = session(BOUND)
    command = relay(max_tokens=50_000, tokens=300, rate=PromptRate.CACHE_WRITE_1H)
    bench.send(replace(command, body=replace(command.body, choices=2)))
    held = bench.money()[1]
    assert 100_000 - 28 < held <= 100_000
    bench.answer(relayed(None))
    assert bench.money()[2] == held
    checked(bench)


def test_more_bytes_than_may_be_tokens_are_charged_up_to_the_hold() -> None:
    bench = session(COUNT)
    bench.send(relay(tokens=300))
    bench.answer(replace(relayed(None), given_bytes=10**9))
    assert bench.money()[2] == price(300, 1_000)


def test_a_session_that_is_taken_up_again_charges_nothing_without_an_outcome() -> None:
    bench = session(BOUND)
    bench.send(relay())
    bench.crash()
    assert bench.money() == (100_000, 0, 0, 0, 0)


# Requests: "say hello" has 9 bytes, 11 as JSON; 50 and 300 are around it; a verdict has at most 200 tokens


@pytest.mark.parametrize(
    ("rule", "ending", "msat"),
    [
        (None, Ending.COMPLETE, price(5 + 25, 5)),
        (BOUND, Ending.COMPLETE, price(9 + 50, 1_000)),
        (COUNT, Ending.COMPLETE, price(9 + 50, 10)),
        (NOTHING, Ending.COMPLETE, 0),
        (BOUND, Ending.BROKEN, price(5 + 25, 5)),
        (NOTHING, Ending.BROKEN, 0),
        (BOUND, Ending.LEFT, price(5 + 25, 5)),
        (COUNT, Ending.LEFT, price(5 + 25, 5)),
        (NOTHING, Ending.LEFT, price(5 + 25, 5)),
    ],
)
def test_a_request_without_the_usage_of_its_work(rule: MissingUsage | None, ending: Ending, msat: int) -> None:
    bench = session(rule)
    bench.send(ask())
    outcome = RequestOutcome(ending, evaluation(), Completion(TEXT, "sonnet", None, "end_turn"))
    (reply,) = bench.answer(outcome).answers.values()
    assert isinstance(reply, RequestAnswer) and reply.cost.debit_msat == Msat(VERDICT + msat)
    assert bench.money()[2] == VERDICT + msat
    checked(bench)


def test_thoughts_count_as_given() -> None:
    bench = session(COUNT)
    bench.send(ask())
    bench.answer(
        RequestOutcome(Ending.COMPLETE, evaluation(), Completion(TEXT, "sonnet", None, "end_turn", given_bytes=500))
    )
    assert bench.money()[2] == VERDICT + price(9 + 50, 500)


@pytest.mark.parametrize(
    ("rule", "msat"),
    [
        (None, (5 + 150) * 28 // 10 + 150 * 14),
        (BOUND, -(-(11 + 300) * 28 // 10) + 200 * 14),
        (COUNT, -(-(11 + 300) * 28 // 10) + 107 * 14),  # "because" and what is around it
        (NOTHING, 0),
    ],
)
def test_a_request_without_the_usage_of_its_evaluation(rule: MissingUsage | None, msat: int) -> None:
    bench = session(NOTHING, rule)
    bench.send(ask())
    bench.answer(RequestOutcome(Ending.REJECTED, evaluation(None, accepted=False)))
    assert bench.money()[2] == msat
    checked(bench)


# Jobs: a prompt of 9 bytes with its system prompt, at most 2,000 tokens; 9 sats were paid


@pytest.mark.parametrize(
    ("rule", "usage", "msat"),
    [
        (None, Usage(300, 500), price(300, 500)),
        (BOUND, Usage(9 + work_overhead_bytes(), 2_000), 9_000),
        (COUNT, Usage(9 + work_overhead_bytes(), 10), price(9 + work_overhead_bytes(), 10)),
        (NOTHING, Usage(0, 0), 0),
    ],
)
def test_a_job_without_a_usage(rule: MissingUsage | None, usage: Usage, msat: int) -> None:
    bench = JobBench(replace(JOB_TERMS, terms=terms_of(rule)))
    bench.to_work_invoice()
    bench.pay_work()
    # The rule of the quote binds, whatever the operator has set since.
    bench.behaviour = JobBench(replace(JOB_TERMS, terms=terms_of(BOUND if rule is NOTHING else NOTHING))).behaviour
    bench.restart()
    bench.finish(completion(None))
    ledger = bench.state.ledger
    assert ledger is not None and (ledger.usage, ledger.charged_msat) == (usage, Msat(msat))
    rest = 9_000 - msat
    assert bench.state.books.owed.value == (rest if rest >= 1_000 else 0)
    check_price(verified(signed(of_job(bench))["jws"], {}, SIGNER.key_id))


def test_a_job_that_was_paid_too_much_is_charged_its_worst_case_at_most() -> None:
    bench = JobBench(replace(JOB_TERMS, terms=terms_of(BOUND)))
    bench.to_work_invoice()
    bench.pay_work(100_000)
    bench.finish(completion(None))
    assert bench.state.ledger is not None
    assert bench.state.ledger.charged_msat == Msat(price(9 + work_overhead_bytes(), 2_000))


# Laws


@given(
    st.sampled_from([BOUND, COUNT, NOTHING]),
    st.sampled_from(list(Ending)),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.integers(0, 10**9),
    st.integers(1, 10**6),
)
def test_what_stands_in_place_is_never_nothing_by_accident_and_never_above_the_bound(
    rule: MissingUsage, ending: Ending, prompt: int, answer: int, given_bytes: int, estimated: int
) -> None:
    bound, estimate = Usage(prompt, answer), Usage(estimated, 0)
    found = usage_in_place(rule, ending, bound=bound, given_bytes=given_bytes, estimate=estimate)
    if found is None:
        assert rule is NOTHING and ending is not Ending.LEFT
        return
    assert found.prompt_tokens > 0
    assert found is estimate or (found.prompt_tokens == prompt and found.output_tokens <= answer)
    assert rule is not BOUND or found in (bound, estimate)


def test_the_rule_is_kept_with_the_price_and_no_rule_leaves_no_trace() -> None:
    assert b"missing_usage" not in msgspec.json.encode(ModelPrice("sonnet", RATES))
    kept = msgspec.json.encode(ModelPrice("sonnet", RATES, missing_usage=COUNT))
    assert b'"missing_usage":"count"' in kept
    assert msgspec.json.decode(kept, type=ModelPrice).missing_usage is COUNT

"""A session's requests: the hold before the model is asked, and the debit after it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import BooksError, Decision, Done, Failed, Wake
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.llm.answers import Ending, Held, RequestOutcome
from satmeter.actors.domain.llm.intents import AnswerRequest
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import BtcPrice, PriceOrigin, Usage
from satmeter.actors.domain.session.messages import RequestAnswer
from tests.helpers.jobs import START_MS, USAGE
from tests.helpers.sessions import (
    DAY_MS,
    SESSION_ID,
    SessionBench,
    ask,
    close,
    completed,
    evaluation,
    once,
    refusal_of,
    rejected,
)

# What "say hello" is held at without its answer, of which each token is 14 msat more (see tests/helpers/sessions.py).
BASE = 4_536
DEFAULT = BASE + 14 * 1_000
COST = 3_080 + 3_780


def funded(sats: int = 100) -> SessionBench:
    bench = SessionBench()
    bench.fund(sats)
    return bench


def answer_of(decision: Decision) -> RequestAnswer:
    (reply,) = decision.answers.values()
    assert isinstance(reply, RequestAnswer)
    return reply


def test_the_worst_case_is_held_before_the_model_is_asked_and_the_cost_debited_after_it() -> None:
    bench = funded()
    decision = bench.send(ask())
    held = Held(1_000, START_MS)
    intent = AnswerRequest("request:ask:a", "say hello", "sonnet", 1_000, False, once("ask:a"), held=held)
    assert (decision.wait_for, decision.intents) == (intent.key, (intent,))
    assert bench.money() == (100_000 - DEFAULT, DEFAULT, 0, 0, 0)
    answer = answer_of(bench.answer(completed()))
    assert bench.money() == (100_000 - COST, 0, COST, 0, 0)
    assert (answer.request_id, answer.ending, answer.text, answer.reason) == (
        "req_a",
        Ending.COMPLETE,
        "the answer",
        None,
    )
    assert (answer.model, answer.max_tokens, answer.balance_msat) == ("sonnet", 1_000, Msat(100_000 - COST))
    cost = answer.cost
    assert (cost.model, cost.usage, cost.held_msat, cost.debit_msat) == ("sonnet", USAGE, Msat(DEFAULT), Msat(COST))
    assert (cost.cost_usd, cost.evaluation_cost_usd) == (Decimal("0.0049"), Decimal("0.0022"))
    assert bench.behaviour.intents(SESSION_ID, bench.state) == ()


def test_the_longest_answer_is_the_clients_wish_within_the_operators_limit() -> None:
    for wish, length in ((None, 1_000), (1, 1), (50, 50), (4_000, 4_000), (9_999, 4_000)):
        bench = funded()
        bench.send(ask(max_tokens=wish))
        assert bench.held().max_tokens == length
        assert bench.money()[1] == BASE + 14 * length


@pytest.mark.parametrize(("sats", "wish", "length"), [(6, None, 104), (10, None, 390), (18, None, 961), (5, 30, 30)])
def test_the_answer_is_made_as_long_as_the_balance_allows_and_says_so(sats: int, wish: int | None, length: int) -> None:
    bench = funded(sats)
    bench.send(ask(max_tokens=wish))
    assert bench.held().max_tokens == length
    held = bench.money()[1]
    assert held == BASE + 14 * length
    assert wish is not None or held <= sats * 1_000 < held + 14
    assert answer_of(bench.answer(completed(Usage(1, 1)))).max_tokens == length


def test_a_balance_below_the_smallest_useful_request_is_refused_with_what_it_takes() -> None:
    bench = funded(5)
    refusal = refusal_of(bench.send(ask()))
    assert refusal.code is Code.INSUFFICIENT_BALANCE
    assert refusal.details == {"requiredMsat": BASE + 1_400, "balanceMsat": 5_000}
    assert bench.money() == (5_000, 0, 0, 0, 0)


def test_what_other_requests_hold_cannot_be_spent() -> None:
    bench = funded(24)
    bench.send(ask("a"))
    refusal = refusal_of(bench.send(ask("b")))
    assert refusal.details == {"requiredMsat": BASE + 1_400, "balanceMsat": 24_000 - DEFAULT}
    bench.answer(completed(), "a")
    assert bench.send(ask("b")).wait_for


def test_a_request_at_another_exchange_rate_costs_accordingly() -> None:
    bench = funded()
    bench.send(ask(btc_price=BtcPrice(Decimal(200_000), PriceOrigin.FALLBACK, 1)))
    assert bench.money()[1] == DEFAULT // 2
    assert answer_of(bench.answer(completed())).cost.debit_msat == Msat(COST // 2)


def test_requests_are_refused_before_the_deposit_and_after_the_end_and_for_unknown_models() -> None:
    bench = SessionBench()
    bench.open()
    assert refusal_of(bench.send(ask())).code is Code.PAYMENT_REQUIRED
    bench.pay()
    refusal = refusal_of(bench.send(ask(model="oracle")))
    # Fronts of earlier versions can't read `MODEL_NOT_FOUND`: their connection would break with all its calls.
    assert refusal.code is Code.INVALID_REQUEST
    assert [field["path"] for field in refusal.details["fields"]] == ["model"]
    bench.send(close())
    assert refusal_of(bench.send(ask())).code is Code.CLOSED
    assert bench.money() == (0, 0, 0, 100_000, 0)


def test_a_duplicate_waits_for_the_one_under_way_and_gets_its_answer_afterwards() -> None:
    bench = funded()
    first = bench.send(ask())
    for again in (bench.send(ask()), bench.send(ask(), resent=True)):
        assert (again.wait_for, again.events) == (first.wait_for, ())
    assert refusal_of(bench.send(ask(digest="other"))).code is Code.IDEMPOTENCY_CONFLICT
    answer = answer_of(bench.answer(completed()))
    late = bench.send(ask())
    assert (late.reply, late.events, late.intents) == (answer, (), ())
    assert refusal_of(bench.send(ask(digest="other"))).code is Code.IDEMPOTENCY_CONFLICT
    assert bench.money() == (100_000 - COST, 0, COST, 0, 0)


def test_an_answer_without_a_key_is_kept_only_for_the_router_that_sends_again() -> None:
    bench = funded()
    bench.send(ask(keyed=False))
    answer = answer_of(bench.answer(completed()))
    assert bench.send(ask(keyed=False), resent=True).reply == answer
    kept = bench.marks["ask:a"].keep_ms
    bench.send(ask("b"))
    bench.answer(completed(), "b")
    assert kept < DAY_MS < bench.marks["ask:b"].keep_ms


def test_a_rejection_pays_the_evaluation_only_and_no_infrastructure() -> None:
    bench = funded()
    bench.send(ask())
    answer = answer_of(bench.answer(rejected()))
    assert (answer.ending, answer.reason, answer.text) == (Ending.REJECTED, "because", "")
    assert (answer.cost.model, answer.cost.usage) == ("haiku", USAGE)
    assert bench.money() == (100_000 - 3_080, 0, 3_080, 0, 0)


@pytest.mark.parametrize("ending", [Ending.BROKEN, Ending.LEFT])
def test_a_stream_that_ended_early_pays_what_it_used(ending: Ending) -> None:
    bench = funded()
    bench.send(ask(stream=True))
    assert bench.held().ends_unheard
    answer = answer_of(bench.answer(completed(Usage(100, 10), ending=ending)))
    # 3,080 for the evaluation; 100 tokens at 2.8, 10 at 14, and infrastructure.
    assert (answer.ending, answer.cost.debit_msat) == (ending, Msat(3_080 + 280 + 140 + 700))
    assert bench.money()[1] == 0


def test_who_left_before_anything_was_asked_pays_nothing_and_who_left_after_the_evaluation_pays_it() -> None:
    bench = funded()
    bench.send(ask("a"))
    assert answer_of(bench.answer(RequestOutcome(Ending.LEFT, None), "a")).cost.usage == Usage(0, 0)
    assert bench.money() == (100_000, 0, 0, 0, 0)
    bench.send(ask("b"))
    bench.answer(RequestOutcome(Ending.LEFT, evaluation()), "b")
    assert bench.money() == (100_000 - 3_080, 0, 3_080, 0, 0)


def test_a_model_that_failed_costs_nothing_and_may_be_asked_again_under_the_same_key() -> None:
    bench = funded()
    bench.send(ask())
    answers = bench.fail("request:ask:a").answers
    assert getattr(answers["request:ask:a"], "code", None) is Code.MODEL_FAILED
    assert bench.money() == (100_000, 0, 0, 0, 0)
    assert bench.send(ask()).events
    bench.answer(completed())
    assert bench.money() == (100_000 - COST, 0, COST, 0, 0)


def test_unreadable_usage_costs_an_estimate_and_not_nothing() -> None:
    bench = funded()
    bench.send(ask("a"))
    bench.answer(completed(None, judged=None, text="x" * 40), "a")
    # The judge: 5 tokens for the request, 150 around it, 150 of verdict. The work: 5, 25 around it, 20 of answer.
    assert bench.money()[2] == 155 * 28 // 10 + 150 * 14 + 84 + 20 * 14 + 700
    bench.send(ask("b"))
    bench.answer(rejected(None), "b")
    assert bench.money()[2] == 2 * (434 + 2_100) + 1_064


@pytest.mark.parametrize("output_tokens", [5_000, 10**8, 10**18])
def test_a_cost_above_the_hold_is_our_loss(output_tokens: int) -> None:
    bench = funded()
    bench.send(ask())
    answer = answer_of(bench.answer(completed(Usage(0, output_tokens))))
    assert answer.cost.debit_msat == answer.cost.held_msat == Msat(DEFAULT)
    assert bench.money() == (100_000 - DEFAULT, 0, DEFAULT, 0, 0)


@pytest.mark.parametrize("exact", [0, 1])
def test_a_cost_is_capped_at_exactly_its_hold(exact: int) -> None:
    bench = funded()
    bench.send(ask())
    # The rest of the hold as output tokens: 1,000 of the answer, 199 of the judge's, and what the prompts left.
    bench.answer(completed(Usage(59, 1_000 + exact), judged=Usage(311, 200)))
    assert bench.money()[2] == DEFAULT


@pytest.mark.parametrize("ending", ["closed", "expired"])
def test_a_request_that_ends_after_the_session_leaves_its_rest_owed(ending: str) -> None:
    bench = funded()
    for name in "abc":
        bench.send(ask(name))
    if ending == "expired":
        bench.now_ms += DAY_MS
    bench.send(close() if ending == "closed" else Wake())
    assert bench.money() == (0, 3 * DEFAULT, 0, 100_000 - 3 * DEFAULT, 0)
    assert answer_of(bench.answer(completed(), "a")).balance_msat == Msat(0)
    assert bench.money() == (0, 2 * DEFAULT, COST, 100_000 - 2 * DEFAULT - COST, 0)
    bench.fail("request:ask:b")
    bench.crash()
    assert bench.money() == (0, 0, COST, 100_000 - COST, 0)


def test_the_same_outcome_twice_changes_nothing() -> None:
    bench = funded()
    bench.send(ask())
    intent = bench.held()
    bench.send(Done(intent, completed()))
    for late in (Done(intent, completed()), Failed(intent, permanent=False)):
        assert bench.send(late) == Decision()
    assert bench.money() == (100_000 - COST, 0, COST, 0, 0)


@pytest.mark.parametrize("snapshot_at", [0, 2, 4])
def test_requests_that_died_with_their_host_cost_nothing_and_run_anew_when_asked_again(snapshot_at: int) -> None:
    bench = funded()
    bench.send(ask("a"))
    bench.send(ask("b"))
    assert len(bench.crash(snapshot_at).events) == 2
    assert bench.running == {}
    assert bench.money() == (100_000, 0, 0, 0, 0)
    assert bench.send(ask("a"), resent=True).intents
    bench.answer(completed())
    assert bench.send(ask("a"), resent=True).events == ()
    assert bench.money() == (100_000 - COST, 0, COST, 0, 0)


def test_a_hold_whose_write_was_not_confirmed_is_answered_when_it_is_asked_again() -> None:
    bench = funded()
    first = bench.send(ask())
    bench.running.clear()
    again = bench.send(ask(), resent=True)
    assert again.events == () and again.intents == first.intents
    bench.answer(completed())
    assert bench.money() == (100_000 - COST, 0, COST, 0, 0)


def test_a_stored_end_that_does_not_fit_its_hold_is_refused() -> None:
    bench = funded()
    bench.send(ask())
    (placed,) = [bench.behaviour.decode_event(data) for data in bench.journal[2:]]
    (ended,) = bench.behaviour.decide(SESSION_ID, bench.state, Done(bench.held(), completed()), 0).events
    for wrong in (
        replace(ended, debit_msat=Msat(1)),
        replace(ended, released_msat=Msat(1)),
        replace(ended, refunded_msat=Msat(1)),
        replace(ended, name="ask:b"),
        placed,
    ):
        with pytest.raises(BooksError):
            bench.behaviour.evolve(SESSION_ID, bench.state, wrong)

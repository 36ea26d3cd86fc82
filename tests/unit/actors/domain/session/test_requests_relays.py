"""Relayed calls in a session: the hold covers the dearest that they can cost, and what was used is charged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.credentials.caveats import Action
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.llm.intents import CountPrompt, RelayRequest
from satmeter.actors.domain.llm.relays import PromptRate, RelayEnd, RelayOutcome
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.intents import LookUpInvoice
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.pricing import LongPrompt, Rates, Usage
from satmeter.actors.domain.session.messages import (
    CheckPayment,
    Counted,
    CountTokens,
    OpenSession,
    Relayed,
    SessionCreated,
    SessionView,
)
from tests.helpers.jobs import invoice
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import DEPOSIT, FULL, SESSION_ID, SESSION_TERMS, SessionBench, grant, refusal_of


@pytest.fixture
def bench() -> SessionBench:
    """A session with 100 sats."""
    found = SessionBench()
    found.fund(100)
    return found


def intent_of(bench: SessionBench, name: str = "a") -> RelayRequest:
    found = bench.running[f"request:ask:{name}"]
    assert isinstance(found, RelayRequest)
    return found


def test_the_hold_covers_prompt_answer_and_infrastructure_and_no_evaluation(bench: SessionBench) -> None:
    bench.send(relay(max_tokens=1_000, tokens=300))
    # 300 tokens at 2.8 msat, 1,000 at 14, infrastructure 700.
    assert bench.money()[1] == 300 * 28 // 10 + 14_000 + 700
    assert intent_of(bench).body.data == b'{"max_tokens":1000,"text":"hello"}'


@pytest.mark.parametrize(
    ("rate", "msat_for_300"),
    [(PromptRate.INPUT, 840), (PromptRate.CACHE_WRITE_5M, 1_050), (PromptRate.CACHE_WRITE_1H, 1_680)],
)
def test_what_may_be_written_to_the_cache_is_held_at_that_rate(
    bench: SessionBench, rate: PromptRate, msat_for_300: int
) -> None:
    bench.send(relay(max_tokens=0, tokens=300, rate=rate))
    assert bench.money()[1] == msat_for_300 + 700


def test_max_tokens_is_lowered_to_what_the_balance_covers(bench: SessionBench) -> None:
    bench.send(relay(max_tokens=50_000, tokens=300))
    asked = intent_of(bench)
    assert asked.max_tokens == (100_000 - 840 - 700) // 14
    assert asked.body.lowered(asked.max_tokens) == b'{"max_tokens":%d,"text":"hello"}' % asked.max_tokens
    assert bench.money()[0] < 14


def test_the_hold_covers_as_many_answers_as_are_asked_for(bench: SessionBench) -> None:
    asked = relay(max_tokens=1_000, tokens=300)
    bench.send(replace(asked, body=replace(asked.body, choices=3)))
    assert bench.money()[1] == 840 + 3 * 14_000 + 700


def test_what_the_balance_covers_is_shared_by_the_answers(bench: SessionBench) -> None:
    asked = relay(max_tokens=50_000, tokens=300)
    bench.send(replace(asked, body=replace(asked.body, choices=4)))
    assert intent_of(bench).max_tokens == (100_000 - 840 - 700) // (4 * 14)


def test_a_thought_that_the_balance_does_not_cover_is_refused_with_what_it_takes(bench: SessionBench) -> None:
    refusal = refusal_of(bench.send(relay(max_tokens=50_000, tokens=300, least=10_064)))
    required = 840 + 700 + 10_064 * 14
    assert (refusal.code, refusal.details) == (
        Code.INSUFFICIENT_BALANCE,
        {"requiredMsat": required, "balanceMsat": 100_000},
    )
    bench.send(relay(max_tokens=50_000, tokens=300, least=5_000))
    assert intent_of(bench).max_tokens >= 5_000


def test_an_answer_is_charged_by_its_usage_with_the_cache_at_its_own_rates(bench: SessionBench) -> None:
    bench.send(relay(tokens=3_000, rate=PromptRate.CACHE_WRITE_1H))
    (reply,) = bench.answer(relayed(Usage(100, 200, 1_000, 400, 500))).answers.values()
    assert isinstance(reply, Relayed) and reply.body == b"the answer"
    # 100 x 2.8 + 200 x 14 + 1,000 x 0.14 + 400 x 3.5 + 500 x 5.6 + 700
    assert reply.cost.debit_msat == Msat(280 + 2_800 + 140 + 1_400 + 2_800 + 700)
    assert bench.money() == (100_000 - reply.cost.debit_msat.value, 0, reply.cost.debit_msat.value, 0, 0)


def test_what_the_provider_refuses_is_free_and_told_and_may_be_asked_again(bench: SessionBench) -> None:
    bench.send(relay())
    decision = bench.answer(relayed(None, status=400, charged=False))
    (reply,) = decision.answers.values()
    assert isinstance(reply, Relayed) and (reply.status, reply.cost.debit_msat.value) == (400, 0)
    assert bench.money() == (100_000, 0, 0, 0, 0) and decision.marks == ()
    assert bench.send(relay()).wait_for


def test_unreadable_figures_cost_an_estimate(bench: SessionBench) -> None:
    bench.send(relay(tokens=300))
    (reply,) = bench.answer(relayed(None, given=50)).answers.values()
    assert isinstance(reply, Relayed)
    assert reply.cost.debit_msat == Msat(150 * 28 // 10 + 50 * 14 + 700)


def test_a_stream_that_nobody_began_costs_nothing(bench: SessionBench) -> None:
    bench.send(relay(stream=True))
    bench.answer(relayed(None, Ending.LEFT, streamed=True, charged=False))
    assert bench.money() == (100_000, 0, 0, 0, 0)


def test_who_heard_a_stream_gets_its_end_and_who_asks_again_all_of_it(bench: SessionBench) -> None:
    bench.send(relay(stream=True))
    (told,) = bench.answer(relayed(streamed=True)).answers.values()
    again = bench.send(relay(stream=True)).reply
    assert isinstance(told, Relayed) and isinstance(again, Relayed)
    assert (told.body, again.body) == (b"", b"the answer") and replace(again, body=b"") == told


def test_it_takes_the_action_llm(bench: SessionBench) -> None:
    only_requests = grant(actions=frozenset({Action.REQUEST}))
    assert refusal_of(bench.send(relay(by=only_requests))).code is Code.CAVEAT_VIOLATED
    assert bench.send(relay(by=grant(actions=frozenset({Action.LLM})))).wait_for


def test_a_spend_limit_counts_relayed_calls(bench: SessionBench) -> None:
    narrow = grant(("c", 10_000))
    bench.send(relay("a", max_tokens=500, tokens=300, by=narrow))
    assert refusal_of(bench.send(relay("b", max_tokens=500, tokens=300, by=narrow))).code is Code.CAVEAT_VIOLATED
    bench.answer(relayed())
    assert bench.state.counters["c"] == Msat(3_780)


counts = st.integers(0, 5_000)


@given(
    prompt=st.integers(0, 5_000),
    split=st.tuples(*[st.floats(0, 1)] * 3),
    rate=st.sampled_from(PromptRate),
    max_tokens=st.integers(0, 5_000),
    written=st.floats(0, 1),
    balance_sats=st.integers(20, 200),
    long_prompt=st.booleans(),
)
def test_no_usage_within_the_bounds_costs_more_than_the_hold_and_the_books_close(
    prompt: int,
    split: tuple[float, float, float],
    rate: PromptRate,
    max_tokens: int,
    written: float,
    balance_sats: int,
    long_prompt: bool,
) -> None:
    """However a prompt within its bound is billed, as far as its marks allow, it was held at that or more.

    What is charged is then the price itself, not the hold that it would be cut to.
    """
    terms = SESSION_TERMS
    if long_prompt:
        sonnet = terms.terms.models["sonnet"]
        rates = sonnet.rates
        dear = Rates(
            input=5 * rates.input,
            output=5 * rates.output,
            cache_read=5 * rates.cache_read,
            cache_write_5m=5 * rates.cache_write_5m,
            cache_write_1h=5 * rates.cache_write_1h,
        )
        models = {**terms.terms.models, "sonnet": replace(sonnet, long_prompt=LongPrompt(1_000, dear))}
        terms = replace(terms, terms=replace(terms.terms, models=models))
    bench = SessionBench(terms)
    bench.fund(balance_sats)
    decision = bench.send(relay(max_tokens=max_tokens, tokens=prompt, rate=rate))
    if decision.reply is not None:
        assert refusal_of(decision).code is Code.INSUFFICIENT_BALANCE and bench.money()[1] == 0
        return
    held, intent = bench.money()[1], intent_of(bench)
    assert intent.max_tokens <= max_tokens and held <= balance_sats * 1_000
    read, left = int(prompt * split[0]), prompt - int(prompt * split[0])
    of_5m = int(left * split[1]) if rate is not PromptRate.INPUT else 0
    of_1h = int((left - of_5m) * split[2]) if rate is PromptRate.CACHE_WRITE_1H else 0
    usage = Usage(left - of_5m - of_1h, int(intent.max_tokens * written), read, of_5m, of_1h)
    (reply,) = bench.answer(relayed(usage)).answers.values()
    assert isinstance(reply, Relayed)
    price = terms.terms.with_margin(terms.terms.price_usd("sonnet", usage)) * 1_000_000
    assert reply.cost.debit_msat.value <= held
    # A dollar is 1,000,000 msat at this exchange rate.
    assert 0 <= reply.cost.debit_msat.value - price < 1
    balance, still_held, spent, _, _ = bench.money()
    assert (balance + spent, still_held) == (balance_sats * 1_000, 0)


# Questions


def test_a_count_is_handed_on_and_costs_nothing(bench: SessionBench) -> None:
    asked = CountTokens("req_1", b"{}", {}, "m", False, FULL)
    topic = bench.send(asked).wait_for
    assert topic is not None and isinstance(bench.running[topic], CountPrompt)
    decision = bench.finish(topic, RelayEnd(200, {}, b'{"input_tokens":7}', None))
    assert decision.answers == {topic: Counted(200, {}, b'{"input_tokens":7}')} and decision.events == ()
    bench.send(asked)
    (refusal,) = bench.fail(topic).answers.values()
    assert getattr(refusal, "code", None) is Code.UNAVAILABLE
    assert bench.money() == (100_000, 0, 0, 0, 0)


def test_who_may_only_top_up_may_not_count_and_an_unpaid_session_can_not(bench: SessionBench) -> None:
    asked = CountTokens("req_1", b"{}", {}, "m", False, FULL)
    for action, allowed in ((Action.TOPUP, False), (Action.READ, True), (Action.LLM, True)):
        decision = bench.send(replace(asked, request_id=action, grant=grant(actions=frozenset({action}))))
        assert bool(decision.wait_for) is allowed
    unpaid = SessionBench()
    unpaid.open()
    assert refusal_of(unpaid.send(asked)).code is Code.PAYMENT_REQUIRED


def test_the_node_is_asked_about_a_deposit_and_its_word_credits_it_once() -> None:
    bench = SessionBench()
    bench.open()
    topic = bench.send(CheckPayment(FULL)).wait_for
    assert topic is not None and isinstance(bench.running[topic], LookUpInvoice)
    # Unpaid, but not over: it stays open.
    decision = bench.finish(topic, None)
    (view,) = decision.answers.values()
    assert decision.events == () and isinstance(view, SessionView) and view.pending_invoices == (DEPOSIT,)
    bench.send(CheckPayment(FULL))
    found = Settlement(DEPOSIT.payment_hash, Msat(100_000), SESSION_ID)
    (view,) = bench.finish(topic, found).answers.values()
    assert isinstance(view, SessionView) and (view.state, view.balance_msat) == ("active", Msat(100_000))
    bench.pay()
    assert bench.money()[0] == 100_000
    again = bench.send(CheckPayment(FULL)).reply
    assert isinstance(again, SessionView) and again.state == "active"


def test_a_deposit_that_had_lapsed_and_is_paid_after_all_is_credited_when_it_is_asked_about() -> None:
    bench = SessionBench()
    bench.open()
    bench.now_ms = DEPOSIT.expires_at_ms + 1_000
    topic = bench.send(CheckPayment(FULL)).wait_for
    assert topic is not None
    assert len(bench.finish(topic, None).events) == 1
    bench.send(CheckPayment(FULL))
    (view,) = bench.finish(topic, Settlement(DEPOSIT.payment_hash, Msat(100_000), SESSION_ID)).answers.values()
    assert isinstance(view, SessionView) and (view.state, view.balance_msat) == ("active", Msat(100_000))


def test_a_deposit_that_is_paid_while_it_is_looked_for_is_credited_once() -> None:
    bench = SessionBench()
    bench.open()
    topic = bench.send(CheckPayment(FULL)).wait_for
    assert topic is not None
    bench.pay()
    decision = bench.finish(topic, Settlement(DEPOSIT.payment_hash, Msat(100_000), SESSION_ID))
    (view,) = decision.answers.values()
    assert decision.events == () and isinstance(view, SessionView) and view.balance_msat == Msat(100_000)


def test_a_challenge_under_the_same_key_is_the_same_whatever_it_would_cost_now() -> None:
    bench = SessionBench()
    bench.open()
    reply = bench.send(OpenSession(777, "client", any_amount=True)).reply
    assert isinstance(reply, SessionCreated) and reply.deposit_invoice == DEPOSIT
    fresh = SessionBench()
    first, second = (fresh.send(OpenSession(sats, "client", any_amount=True)).intents[0] for sats in (100, 101))
    (one,) = fresh.finish(first.key, DEPOSIT).answers.values()
    (other,) = fresh.finish(second.key, invoice(9, 101)).answers.values()
    assert one == other


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (relayed(Usage(100_000, 100)), True),
        (relayed(Usage(100_000, 100), streamed=True), True),
        (relayed(Usage(300, 1_000)), False),
        (relayed(None, given=90_000), False),
        (relayed(Usage(300, 90_000), Ending.LEFT, streamed=True), False),
        (relayed(Usage(300, 90_000), Ending.BROKEN, streamed=True), False),
        (relayed(Usage(100_000, 100), status=400), False),
    ],
)
def test_a_hold_that_did_not_cover_what_was_counted_is_told_of(
    bench: SessionBench, outcome: RelayOutcome, told: bool
) -> None:
    bench.send(relay(max_tokens=1_000, tokens=300))
    decision = bench.finish("request:ask:a", outcome)
    assert [alarm.event for alarm in decision.alarms] == (["hold_was_too_small"] if told else [])
    for alarm in decision.alarms:
        # 840 for the prompt, 14,000 for the answer, 700 for infrastructure; the price is in dollars.
        assert (alarm.fields["request_id"], alarm.fields["held_msat"]) == ("req_a", 15_540)
        assert (alarm.fields["price_usd"], alarm.fields["uncovered_usd"]) == ("0.2821", "0.26656")

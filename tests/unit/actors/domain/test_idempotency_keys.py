"""Owners of idempotency keys, and who is told what was bought under one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from satmeter.actors.domain import idempotency_keys
from satmeter.actors.domain.behaviour import Decision, Mark
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.domain.session.messages import RequestAnswer, SessionView, TopUpInvoice
from tests.helpers.credentials import grant_of, keyed
from tests.helpers.jobs import invoice
from tests.helpers.relays import relay, relayed
from tests.helpers.sessions import SessionBench, ask, close, completed, once, refusal_of, target, top_up

WHOLE = grant_of()
CREW = grant_of("name = crew", "max_msat = 400000")
COOK = grant_of("name = crew", "max_msat = 400000", "name = cook")
SCOUT = grant_of("name = crew", "max_msat = 400000", "name = scout")
COST = 3_080 + 3_780

Asks = Callable[..., Any]


@pytest.fixture
def bench() -> SessionBench:
    """A session with 1,000 sats."""
    found = SessionBench()
    found.fund(1_000)
    return found


def bought(bench: SessionBench, command: Any) -> Any:
    """The answer, after it was paid for."""
    topic = bench.send(command).wait_for
    assert topic is not None
    (reply,) = bench.finish(topic, completed() if hasattr(command, "request") else relayed()).answers.values()
    return reply


@pytest.fixture(params=[ask, relay], ids=["request", "call"])
def asks(request: pytest.FixtureRequest) -> Asks:
    """Builds a request, or a call in another provider's protocol."""
    found: Asks = request.param
    return found


@pytest.mark.parametrize("buyer", [WHOLE, CREW, COOK])
def test_an_answer_is_for_its_buyer_and_those_that_it_was_derived_from(
    bench: SessionBench, asks: Asks, buyer: Grant
) -> None:
    answer = bought(bench, keyed(asks(), buyer))
    spent = bench.money()[2]
    for by in (WHOLE, CREW, COOK):
        if by.lineage[-1] in buyer.lineage:
            decision = bench.send(keyed(asks(), by))
            assert decision.reply == answer and not decision.intents
    assert bench.money()[2] == spent > 0


@pytest.mark.parametrize(("buyer", "other"), [(WHOLE, CREW), (WHOLE, COOK), (CREW, SCOUT), (COOK, SCOUT)])
def test_to_others_the_same_key_and_body_are_a_request_of_their_own(
    bench: SessionBench, asks: Asks, buyer: Grant, other: Grant
) -> None:
    first = bought(bench, keyed(asks(), buyer))
    spent = bench.money()[2]
    second = bought(bench, replace(keyed(asks(), other), request_id="req_own"))
    assert second.request_id == "req_own" != first.request_id
    assert bench.money()[2] == 2 * spent
    assert bench.send(keyed(asks(), buyer)).reply == first
    assert bench.send(keyed(asks(), other)).reply == second


@pytest.mark.parametrize("caveat", ["max_msat = 0", "max_msat_per_request = 1", "actions = read", "expires_at = 0"])
def test_who_may_not_buy_an_answer_is_not_given_that_of_another(bench: SessionBench, asks: Asks, caveat: str) -> None:
    bought(bench, keyed(asks(), WHOLE))
    bought(bench, keyed(asks(), CREW))
    for caveats in ((caveat,), ("name = crew", "max_msat = 400000", caveat)):
        refusal = refusal_of(bench.send(keyed(asks(), grant_of(*caveats))))
        assert (refusal.code, refusal.details["caveat"]) == (Code.CAVEAT_VIOLATED, caveat)
    under_way = keyed(asks("b"), WHOLE)
    assert bench.send(under_way).wait_for
    assert refusal_of(bench.send(keyed(asks("b"), grant_of(caveat)))).code is Code.CAVEAT_VIOLATED


def test_a_request_under_way_is_joined_by_its_buyer_and_those_that_it_was_derived_from(
    bench: SessionBench, asks: Asks
) -> None:
    topic = bench.send(keyed(asks(), COOK)).wait_for
    for by in (COOK, CREW, WHOLE):
        joined = bench.send(keyed(asks(), by))
        assert joined.wait_for == topic and joined.events == ()
    begun = [bench.send(keyed(asks(), SCOUT)).wait_for, bench.send(keyed(asks("b"), WHOLE)).wait_for]
    begun.append(bench.send(keyed(asks("b"), CREW)).wait_for)
    assert len({topic, *begun}) == 4
    assert {topic, *begun} <= bench.running.keys()


@pytest.mark.parametrize("under_way", [True, False])
def test_a_key_with_another_body_conflicts_for_its_own_credential_alone(
    bench: SessionBench, asks: Asks, under_way: bool
) -> None:
    if under_way:
        bench.send(keyed(asks(), COOK))
    else:
        bought(bench, keyed(asks(), COOK))
    other = asks(digest="other")
    assert refusal_of(bench.send(keyed(other, COOK))).code is Code.IDEMPOTENCY_CONFLICT
    for by in (WHOLE, CREW, SCOUT):
        assert bench.send(keyed(other, by)).wait_for


def test_what_one_s_own_key_bought_comes_before_what_was_bought_beneath(bench: SessionBench, asks: Asks) -> None:
    for name, by in (("a", WHOLE), ("b", CREW)):
        own = bought(bench, keyed(asks(name), by))
        beneath = bought(bench, replace(keyed(asks(name), COOK), request_id="req_beneath"))
        assert bench.send(keyed(asks(name), by)).reply == own != beneath


def test_what_is_under_way_under_one_s_own_key_comes_before_what_was_bought_beneath(
    bench: SessionBench, asks: Asks
) -> None:
    topic = bench.send(keyed(asks(), CREW)).wait_for
    beneath = bought(bench, keyed(asks(), COOK))
    assert bench.send(keyed(asks(), CREW)).wait_for == topic
    assert bench.send(keyed(asks(), WHOLE)).reply == beneath


def test_a_top_up_is_for_its_credential_and_those_above(bench: SessionBench) -> None:
    def made(by: Grant, number: int) -> TopUpInvoice:
        topic = bench.send(keyed(top_up(), by)).wait_for
        assert topic is not None
        assert bench.send(keyed(top_up(), by)).wait_for == topic
        (reply,) = bench.finish(topic, invoice(number, 100)).answers.values()
        assert isinstance(reply, TopUpInvoice)
        return reply

    topic = bench.send(keyed(top_up(), COOK)).wait_for
    assert bench.send(keyed(top_up(), CREW)).wait_for == topic
    cook = made(COOK, 2)
    assert bench.send(keyed(top_up(), CREW)).reply == bench.send(keyed(top_up(), COOK)).reply == cook
    assert made(SCOUT, 3) != cook
    refused = refusal_of(bench.send(keyed(top_up(), grant_of("name = crew", "max_msat = 400000", "actions = read"))))
    assert refused.code is Code.CAVEAT_VIOLATED


@pytest.mark.parametrize("to", [None, target(7, 900)])
def test_a_closing_is_told_to_none_who_may_not_close(bench: SessionBench, to: Any) -> None:
    closing = close(to)
    bench.send(keyed(closing, WHOLE))
    asker = keyed(closing, grant_of("actions = request"))
    assert refusal_of(bench.send(asker)).code is Code.CAVEAT_VIOLATED
    if to is not None:
        bench.finish(f"send_payout:{7:064x}", PayoutReport(PayoutStatus.PAID, Msat(0)))
    assert refusal_of(bench.send(asker)).code is Code.CAVEAT_VIOLATED
    assert isinstance(bench.send(keyed(closing, WHOLE)).reply, SessionView)


def test_a_kept_answer_is_not_told_to_a_credential_of_another_generation(bench: SessionBench) -> None:
    bought(bench, keyed(ask(), WHOLE))
    assert refusal_of(bench.send(keyed(ask(), replace(WHOLE, generation=2)))).code is Code.INVALID_CREDENTIAL


def test_the_whole_credential_s_keys_have_the_names_that_they_always_had() -> None:
    asked = idempotency_keys.operation(WHOLE, "kABC", "digest")
    assert (asked.name, asked.lineage) == ("kABC", ("0",))
    crew, cook = (idempotency_keys.operation(by, "kABC", "digest").name for by in (CREW, COOK))
    assert len({"kABC", crew, cook}) == 3


# Answers of earlier versions, which kept them for all credentials of a session under one name


def bought_before(bench: SessionBench, by: Grant, command: Any = None) -> Any:
    """As an earlier version kept it; its fronts made one name for all."""
    command = replace(ask() if command is None else command, grant=by)
    assert command.once.lineage == ()
    return bought(bench, command)


def test_what_was_bought_before_the_upgrade_is_told_to_its_buyer_and_charged_to_nobody_else(
    bench: SessionBench, asks: Asks
) -> None:
    for name, buyer, others in (("a", COOK, (SCOUT, CREW)), ("b", WHOLE, (CREW, COOK)), ("c", CREW, (COOK,))):
        answer = bought_before(bench, buyer, asks(name))
        before = bench.money()
        assert bench.send(keyed(asks(name), buyer)).reply == answer
        for other in others:
            assert refusal_of(bench.send(keyed(asks(name), other))).code is Code.IDEMPOTENCY_CONFLICT
        assert bench.send(keyed(asks(name), WHOLE)).reply == answer
        assert bench.money() == before


def test_what_was_bought_under_another_limit_before_the_upgrade_is_not_told(bench: SessionBench) -> None:
    bought_before(bench, grant_of("max_msat = 400000"))
    for other in (grant_of("max_msat = 300000"), grant_of("name = x", "max_msat = 400000"), grant_of("expires_at = 0")):
        assert refusal_of(bench.send(keyed(ask(), other))).code is Code.IDEMPOTENCY_CONFLICT


def test_an_earlier_version_s_counts_that_could_not_bind_do_not_hide_its_buyer(bench: SessionBench) -> None:
    by = grant_of("max_msat = 9000", "max_msat = 10000")
    answer = bought_before(bench, replace(by, spend_limits=(*by.spend_limits, *CREW.spend_limits)))
    assert bench.send(keyed(ask(), by)).reply == answer


def test_a_key_of_before_the_upgrade_with_another_body_is_free_for_others(bench: SessionBench) -> None:
    bought_before(bench, WHOLE)
    assert bench.send(keyed(ask(digest="other"), COOK)).wait_for
    assert refusal_of(bench.send(keyed(ask(digest="other"), WHOLE))).code is Code.IDEMPOTENCY_CONFLICT


def test_a_request_under_way_that_an_earlier_front_sent_is_joined_by_its_buyer(bench: SessionBench) -> None:
    topic = bench.send(replace(ask(), grant=COOK)).wait_for
    assert bench.send(keyed(ask(), COOK)).wait_for == topic
    assert bench.send(keyed(ask(), SCOUT)).wait_for not in (None, topic)


def test_a_top_up_of_before_the_upgrade_is_told_to_who_may_top_up(bench: SessionBench) -> None:
    reply = TopUpInvoice(invoice(2, 100))
    bench.marks["top_up:t"] = Mark(once("top_up:t"), reply)
    assert bench.send(keyed(top_up(), COOK)).reply == reply
    refused = bench.send(keyed(top_up(), grant_of("actions = request"))).reply
    assert isinstance(refused, Refusal) and refused.code is Code.CAVEAT_VIOLATED


def test_a_later_version_s_answers_are_not_taken_for_an_earlier_one_s(bench: SessionBench) -> None:
    answer = bought(bench, keyed(ask(), WHOLE))
    assert isinstance(answer, RequestAnswer)
    decision: Decision = bench.send(keyed(ask(), grant_of("expires_at = 99999999999")))
    assert decision.wait_for and decision.reply is None

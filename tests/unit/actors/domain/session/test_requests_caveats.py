"""Spending of narrowed credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from satmeter.actors.domain.credentials.caveats import Action, Grant
from satmeter.actors.domain.credentials.macaroon import MacaroonId, attenuate, mint, session_id, verify
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.session.messages import GetLedger, GetSession
from tests.helpers.jobs import START_MS
from tests.helpers.relays import relay
from tests.helpers.sessions import (
    DEPOSIT,
    SessionBench,
    ask,
    close,
    completed,
    grant,
    refusal_of,
    rejected,
    target,
    top_up,
)

BASE = 4_536
LEAST = BASE + 1_400
COST = 3_080 + 3_780
KEY = bytes(32)
MACAROON_ID = MacaroonId(DEPOSIT.payment_hash, session_id(bytes(24)), generation=1)


def funded() -> SessionBench:
    bench = SessionBench()
    bench.fund(1_000)
    return bench


def violated(bench: SessionBench, by: Grant, name: str = "x") -> Refusal:
    before = bench.money()
    refusal = refusal_of(bench.send(ask(name, by=by)))
    assert refusal.code is Code.CAVEAT_VIOLATED
    assert bench.money() == before
    return refusal


def test_a_spend_limit_lowers_the_answer_and_then_refuses_it() -> None:
    bench = funded()
    by = grant(("c", 10_000))
    bench.send(ask("a", by=by))
    assert bench.held().max_tokens == (10_000 - BASE) // 14
    assert violated(bench, by).details["caveat"] == "max_msat = 10000"
    bench.answer(completed())
    told = violated(bench, by).details
    assert told == {"caveat": "max_msat = 10000", "requiredMsat": LEAST, "leftMsat": 10_000 - COST}
    assert bench.money()[2] == COST


def test_what_was_released_can_be_spent_again_under_the_limit() -> None:
    bench = funded()
    by = grant(("c", 7_000))
    for name in "abc":
        bench.send(ask(name, by=by))
        bench.fail(f"request:ask:{name}")
    bench.send(ask("d", by=by))
    bench.crash()
    bench.send(ask("e", by=by))
    assert bench.held("e").max_tokens == (7_000 - BASE) // 14


def test_what_was_spent_counts_for_good_and_only_that() -> None:
    bench = funded()
    by = grant(("c", COST + LEAST))
    bench.send(ask("a", by=by))
    bench.answer(completed(), "a")
    bench.crash(1)
    bench.send(ask("b", by=by))
    assert bench.held("b").max_tokens == 100


@pytest.mark.parametrize("lacking", [0, 1])
def test_the_smallest_useful_request_must_fit_to_the_millisatoshi(lacking: int) -> None:
    bench = funded()
    decision = bench.send(ask(by=grant(("c", LEAST - lacking))))
    assert bool(decision.wait_for) is not bool(lacking)


def test_credentials_derived_from_one_share_its_count_and_have_their_own() -> None:
    bench = funded()
    parent, one, other = grant(("p", 20_000)), grant(("p", 20_000), ("1", 8_000)), grant(("p", 20_000), ("2", 15_000))
    bench.send(ask("a", by=one))
    held = bench.money()[1]
    assert 8_000 - 14 < held <= 8_000
    assert violated(bench, one).details["caveat"] == "max_msat = 8000"
    bench.send(ask("b", by=other))
    assert 20_000 - held - 14 < bench.money()[1] - held <= 20_000 - held
    for by in (parent, one, other):
        assert violated(bench, by).details["caveat"] == "max_msat = 20000"
    bench.answer(completed(), "a")
    bench.answer(completed(), "b")
    bench.send(ask("c", by=parent))
    assert 20_000 - 14 < bench.money()[1] + bench.money()[2] <= 20_000


def test_siblings_with_caveats_of_the_same_text_count_apart() -> None:
    bench = funded()
    bench.send(ask("a", by=grant(("one", 6_000))))
    assert bench.send(ask("b", by=grant(("other", 6_000)))).wait_for


def test_a_limit_that_stands_twice_counts_once() -> None:
    bench = funded()
    bench.send(ask(by=grant(("c", 12_000), ("c", 12_000))))
    assert 12_000 - 14 < bench.money()[1] <= 12_000
    assert {name: used.value for name, used in bench.state.counters.items()} == {"c": bench.money()[1]}


def test_a_limit_for_each_request_holds_for_each_and_for_no_sum() -> None:
    bench = funded()
    by = grant(per_request=6_000)
    for name in "abc":
        bench.send(ask(name, by=by))
        assert bench.held(name).max_tokens == 104
    assert violated(bench, grant(per_request=LEAST - 1)).details["caveat"] == f"max_msat_per_request = {LEAST - 1}"


def test_an_expired_credential_and_one_for_other_actions_are_refused() -> None:
    bench = funded()
    at_s = START_MS // 1_000
    assert violated(bench, grant(expires_at_s=at_s)).details["caveat"] == f"expires_at = {at_s}"
    assert bench.send(ask("a", by=grant(expires_at_s=at_s + 1))).wait_for
    by = grant(actions=frozenset({Action.READ, Action.CLOSE}))
    assert violated(bench, by).details["caveat"] == "actions = close,read"
    only_requests = grant(actions=frozenset({Action.REQUEST}))
    assert bench.send(ask("b", by=only_requests)).wait_for
    assert refusal_of(bench.send(close(by=only_requests))).details == {"caveat": "actions = request"}


@pytest.mark.parametrize(
    ("action", "command"),
    [
        (Action.REQUEST, lambda by: ask("b", by=by)),
        (Action.LLM, lambda by: relay("b", by=by)),
        (Action.TOPUP, lambda by: top_up(by=by)),
        (Action.CLOSE, lambda by: close(by=by)),
        (Action.CLOSE, lambda by: close(target(7, 90), by=by)),
        (Action.READ, GetSession),
        (Action.READ, lambda by: GetLedger(0, 10, by)),
    ],
)
def test_what_is_asked_needs_its_own_action_and_no_other(action: Action, command: Callable[[Grant], Any]) -> None:
    bench = funded()
    bench.running.clear()
    others = grant(actions=frozenset(Action) - {action})
    assert refusal_of(bench.send(command(others))).code is Code.CAVEAT_VIOLATED
    assert bench.money() == (1_000_000, 0, 0, 0, 0) and not bench.state.ended and not bench.running
    assert not isinstance(bench.send(command(grant(actions=frozenset({action})))).reply, Refusal)


def used_up(bench: SessionBench, above: tuple[tuple[str, int], ...], count: int) -> None:
    """So many credentials beneath these limits have spent."""
    used = {f"{above[-1][0] if above else ''}#{number}": Msat(1) for number in range(count)}
    beneath = {name: bench.state.beneath.get(name, 0) + count for name, _ in above}
    state = bench.state
    bench.session = replace(state, counters={**state.counters, **used}, beneath={**state.beneath, **beneath})


def test_a_holder_of_a_limited_credential_cannot_use_up_what_the_others_need() -> None:
    bench = funded()
    crew = (("crew", 50_000),)
    cook, scout = (*crew, ("cook", 40_000)), (*crew, ("scout", 40_000))
    for number, by in enumerate((crew, cook)):
        bench.send(ask(f"a{number}", by=grant(*by), max_tokens=100))
        bench.answer(rejected(), f"a{number}")
    used_up(bench, cook, 1_023)
    bench.send(ask("b", by=grant(*cook, ("last", 30_000)), max_tokens=100))
    bench.answer(rejected(), "b")
    refused = violated(bench, grant(*cook, ("more", 30_000)))
    assert refused.details == {"caveat": "max_msat = 30000"}
    assert refused.message == "Beneath max_msat = 40000 of this credential at most 1024 can be in use."
    for number, by in enumerate((crew, cook, scout, (*scout, ("cabin boy", 30_000)), (("other", 9_000),))):
        assert bench.send(ask(f"c{number}", by=grant(*by), max_tokens=100)).wait_for
        bench.answer(rejected(), f"c{number}")
    assert bench.send(ask("d")).wait_for


def test_a_session_counts_only_so_many_spend_limits() -> None:
    bench = funded()
    known = grant(("known", 30_000))
    bench.send(ask("a", by=known, max_tokens=100))
    bench.answer(rejected())
    used_up(bench, (), 16_383)
    assert violated(bench, grant(("more", 9_000))).details["caveat"] == "max_msat = 9000"
    assert bench.send(ask("b", by=known, max_tokens=100)).wait_for
    assert bench.send(ask("c")).wait_for


def test_limits_that_nothing_was_spent_under_are_not_remembered() -> None:
    bench = funded()
    for number in range(20):
        bench.send(ask(by=grant(("p", 50_000), (f"c{number}", 30_000)), max_tokens=100))
        bench.fail("request:ask:a", permanent=True)
    assert bench.state.counters == {} and bench.state.beneath == {}
    bench.send(ask(by=grant(("p", 50_000), ("c", 30_000))))
    bench.crash()
    assert bench.state.counters == {} and bench.state.beneath == {}


def test_sixty_wider_limits_in_each_of_many_credentials_need_no_count_of_their_own() -> None:
    bench = SessionBench()
    bench.fund(1_000)
    parent = attenuate(mint(KEY, MACAROON_ID), ["max_msat = 900000"])
    for number in range(33):
        caveats = [f"max_msat = {900_000 + number + wider}" for wider in range(60)]
        _, by = verify(KEY, attenuate(parent, caveats))
        assert bench.send(ask(f"a{number}", by=by, max_tokens=100)).wait_for
        bench.answer(rejected(), f"a{number}")
    assert [used.value for used in bench.state.counters.values()] == [33 * 3_080]
    _, other = verify(KEY, attenuate(mint(KEY, MACAROON_ID), ["max_msat = 10000"]))
    assert bench.send(ask(by=other)).wait_for


def test_a_count_of_an_earlier_version_stays_as_it_was_kept_then() -> None:
    bench = funded()
    bench.send(ask(by=grant(("wide", 90_000), ("narrow", 20_000))))
    placed = msgspec.json.decode(bench.journal[-1])
    del placed["hold"]["nested"]
    bench.journal[-1] = msgspec.json.encode(placed)
    bench.session = bench.behaviour.decode_state(
        bench.behaviour.encode_state(bench.state).replace(b',"nested":true', b"")
    )
    bench.session = replace(bench.session, beneath={})
    bench.fail("request:ask:a", permanent=True)
    # As its snapshots have it, which an audit compares with the journal.
    assert {name: used.value for name, used in bench.state.counters.items()} == {"wide": 0, "narrow": 0}
    assert bench.state.beneath == {}
    bench.restart()
    bench.send(ask("b", by=grant(("wide", 90_000), ("narrow", 20_000))))
    assert bench.state.beneath == {"wide": 1}
    bench.restart()


@pytest.mark.parametrize("by", [grant(("c", 10**9)), grant(per_request=91_999)])
def test_nothing_is_paid_out_beyond_what_a_credential_may_spend(by: Grant) -> None:
    bench = funded()
    refusal = refusal_of(bench.send(close(target(7, 90), by=by)))
    assert refusal.code is Code.CAVEAT_VIOLATED
    assert bench.money() == (1_000_000, 0, 0, 0, 0) and not bench.state.ended
    bench.send(close(by=by))
    assert bench.money() == (0, 0, 0, 1_000_000, 0)
    assert refusal_of(bench.send(close(target(7, 90), "c2", by=by))).code is Code.CAVEAT_VIOLATED
    assert bench.send(close(target(7, 90), "c3", by=grant(per_request=92_000))).wait_for


def test_the_ledger_names_the_spender() -> None:
    bench = funded()
    bench.send(ask("a", by=grant(spender="crew/cook")))
    bench.answer(completed())
    assert [entry.spender for entry in bench.ledger()] == [None, "crew/cook", "crew/cook", "crew/cook"]


def test_lists_of_actions_without_a_common_one_allow_nothing_however_many_follow() -> None:
    bench = funded()
    chain = ["actions = read", "actions = topup", "actions = close"]
    _, by = verify(KEY, attenuate(mint(KEY, MACAROON_ID), chain))
    refusal = refusal_of(bench.send(close(target(7, 980), by=by)))
    assert (refusal.code, refusal.details) == (Code.CAVEAT_VIOLATED, {"caveat": "actions = "})
    assert bench.money() == (1_000_000, 0, 0, 0, 0) and not bench.running.get("payout")
    assert refusal_of(bench.send(top_up(by=by))).code is Code.CAVEAT_VIOLATED
    assert refusal_of(bench.send(GetSession(by))).code is Code.CAVEAT_VIOLATED
    violated(bench, by)

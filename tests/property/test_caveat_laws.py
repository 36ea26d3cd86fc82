"""Laws of every credential: it allows what each of its caveats allows alone, and appending one never adds to it.

The oracle reads each caveat by itself, by the contract; the macaroons are made by pymacaroons.
"""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from satmeter.actors.domain.behaviour import Decision
from satmeter.actors.domain.credentials.caveats import Action, Grant, UnknownCaveatError
from satmeter.actors.domain.errors import Refusal
from satmeter.actors.domain.money import Msat, total
from satmeter.actors.domain.receipts import GetRequestReceipt
from satmeter.actors.domain.session.messages import (
    CheckPayment,
    CountTokens,
    GetLedger,
    GetSession,
    NameRefundDestination,
)
from satmeter.actors.domain.session.state import HoldPlaced
from tests.helpers.credentials import grant_of
from tests.helpers.relays import relay
from tests.helpers.sessions import DAY_MS, SESSION_ID, SessionBench, ask, close, completed, target, top_up

TIMES_S = (0, 1, 1_000, 2_000, 10**17)

numbers = st.sampled_from([0, 1, 999, 1_000, 2_000, 10**17, 10**18 - 1])
spaces = st.sampled_from(["", " ", "  "])
action_lists = st.lists(st.tuples(spaces, st.sampled_from(Action), spaces), min_size=1, max_size=7)


def _listed(parts: list[tuple[str, Action, str]]) -> str:
    return ",".join(f"{before}{action.value}{after}" for before, action, after in parts)


caveats = st.one_of(
    st.builds("actions = {}".format, st.builds(_listed, action_lists)),
    st.builds("{}{}={}{}".format, st.just("actions"), st.sampled_from(["", " "]), st.just(""), st.sampled_from(Action)),
    st.builds("expires_at = {}".format, numbers),
    st.builds("max_msat = {}".format, numbers),
    st.builds("max_msat_per = {}/{}".format, numbers, st.sampled_from(["hour", "day", "week"])),
    st.builds("max_msat_per_request = {}".format, numbers),
    st.builds(
        "name = {}".format, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=9)
    ),
)


def verified(added: list[str]) -> Grant:
    """Return the grant that the server reads, with these caveats as another implementation appends them."""
    return grant_of(*added)


def allows(caveat: str, action: str, at_s: int) -> bool:
    """Return whether this caveat alone allows the action at this time."""
    name, _, value = caveat.partition("=")
    match name.strip():
        case "actions":
            return action in [part.strip() for part in value.split(",")]
        case "expires_at":
            return at_s < int(value)
    return True


def per_request(added: list[str]) -> int | None:
    """The lowest of the limits for each request."""
    limits = [int(caveat.split("=")[1]) for caveat in added if caveat.startswith("max_msat_per_request")]
    return min(limits, default=None)


@given(st.lists(caveats, max_size=12))
@example(["actions = read", "actions = topup", "actions = close"])
@example(["actions = read,llm", "actions = topup", "expires_at = 0", "actions = request,read,topup,close,llm"])
@example(["expires_at = 0", "expires_at = 2000"])
@example(["max_msat_per_request = 0", "max_msat_per_request = 1000"])
@example(["max_msat = 0", "max_msat = 1000"])
@example(["max_msat_per = 0/day", "max_msat_per = 1000/day", "max_msat_per = 1000/week"])
def test_a_credential_allows_what_each_of_its_caveats_allows_alone(added: list[str]) -> None:
    grant = verified(added)
    for action in Action:
        for at_s in TIMES_S:
            allowed = all(allows(caveat, action.value, at_s) for caveat in added)
            assert (grant.refusal(action, at_s * 1_000) is None) == allowed
    lowest = per_request(added)
    # More than all bitcoin does not limit.
    assert (None if grant.max_msat_per_request is None else grant.max_msat_per_request.value) == (
        None if lowest is None else min(lowest, 21 * 10**17)
    )


@given(st.lists(caveats, max_size=8), st.lists(caveats, min_size=1, max_size=8))
def test_what_was_refused_before_a_caveat_was_appended_is_refused_after_it(first: list[str], more: list[str]) -> None:
    for count in range(len(more)):
        wide, narrow = verified(first + more[:count]), verified(first + more[: count + 1])
        for action in Action:
            for at_s in TIMES_S:
                if wide.refusal(action, at_s * 1_000) is not None:
                    assert narrow.refusal(action, at_s * 1_000) is not None
        assert narrow.spend_limits[: len(wide.spend_limits)] == wide.spend_limits
        if wide.max_msat_per_request is not None:
            assert narrow.max_msat_per_request is not None
            assert narrow.max_msat_per_request <= wide.max_msat_per_request
        if wide.spender is not None:
            assert narrow.spender is not None and (narrow.spender + "/").startswith(wide.spender + "/")


@given(st.lists(caveats, max_size=6), st.text(max_size=40), st.lists(caveats, max_size=3))
def test_a_caveat_of_any_text_is_understood_or_ends_the_credential(
    first: list[str], text: str, more: list[str]
) -> None:
    try:
        wide, narrow = verified(first), verified([*first, text, *more])
    except (UnknownCaveatError, UnicodeEncodeError):
        return
    for action in Action:
        assert wide.refusal(action, 0) is None or narrow.refusal(action, 0) is not None


def commands(by: Grant) -> list[Any]:
    """All that a holder can send to a session."""
    return [
        ask("a", by=by),
        ask("b", by=by, max_tokens=100, stream=True),
        relay("c", by=by),
        relay("d", 20_000, tokens=9_000, by=by),
        CountTokens("req_e", b"{}", {}, "m", False, by),
        GetSession(by),
        CheckPayment(by),
        GetLedger(0, 10, by),
        GetRequestReceipt("req_f", by),
        top_up(by=by),
        close(by=by),
        close(target(7, 3), by=by),
        close(target(8, 90), by=by),
        NameRefundDestination("thief@example.org", by),
    ]


def held(decision: Decision) -> Msat:
    """Return the amount that the decision puts on hold."""
    return total([event.hold.amount_msat for event in decision.events if isinstance(event, HoldPlaced)])


@settings(max_examples=200)
@given(
    st.lists(caveats, max_size=5),
    caveats,
    st.integers(5, 200),
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.sampled_from(["answer", "fail", "wait"]),
            st.sampled_from([0, 0, 3_600_000, 5 * 3_600_000]),
        ),
        max_size=4,
    ),
    st.sampled_from(["active", "unpaid", "closed", "over"]),
)
def test_a_session_refuses_after_a_caveat_what_it_refused_before_and_holds_no_more(
    first: list[str], more: str, sats: int, spent: list[tuple[int, str, int]], state: str
) -> None:
    bench = SessionBench()
    if state == "unpaid":
        bench.open()
    else:
        bench.fund(sats)
    chain = [*first, more]
    for number, (length, end, pause_ms) in enumerate(spent):
        name = f"x{number}"
        bench.now_ms += pause_ms
        bench.send(ask(name, by=verified(chain[:length])))
        if f"request:ask:{name}" in bench.running and end != "wait":
            bench.answer(completed(), name) if end == "answer" else bench.fail(f"request:ask:{name}")
    if state == "closed":
        bench.send(close())
    bench.now_ms += 2 * DAY_MS if state == "over" else 0
    wide, narrow = verified(first), verified(chain)
    for before, after in zip(commands(wide), commands(narrow), strict=True):
        allowed, then = (
            bench.behaviour.decide(SESSION_ID, bench.session, command, bench.now_ms) for command in (before, after)
        )
        if isinstance(allowed.reply, Refusal):
            assert isinstance(then.reply, Refusal) and then.events == () and then.intents == ()
        assert held(then) <= held(allowed)

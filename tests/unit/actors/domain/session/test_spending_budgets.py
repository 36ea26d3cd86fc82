"""Budgets that renew: each window's sum holds, whenever what counts in it ends, and old windows are dropped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.credentials.periods import Period
from satmeter.actors.domain.errors import Code, Refusal
from tests.helpers.jobs import START_MS
from tests.helpers.sessions import SessionBench, ask, close, completed, grant, refusal_of, rejected, target

# What the tests' request holds at least, and what it costs.
LEAST, COST = 4_536 + 1_400, 3_080 + 3_780
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MIDNIGHT_MS = START_MS - START_MS % DAY_MS + DAY_MS


def day_begun() -> SessionBench:
    """A session that is funded an hour before midnight."""
    bench = SessionBench()
    bench.now_ms = MIDNIGHT_MS - HOUR_MS
    bench.fund(1_000)
    return bench


def daily(msat: int, name: str = "d", **more: Any) -> Grant:
    return grant((name, msat, Period.DAY), **more)


def used(bench: SessionBench) -> dict[str, int]:
    return {name: amount.value for name, amount in bench.state.counters.items()}


def spends(bench: SessionBench, name: str, by: Grant) -> None:
    bench.send(ask(name, by=by))
    bench.answer(completed(), name)


def refused(bench: SessionBench, by: Grant, name: str = "x") -> Refusal:
    """Refuse it; the refusal without the amounts that it lacks."""
    before = bench.money()
    refusal = refusal_of(bench.send(ask(name, by=by)))
    assert refusal.code is Code.CAVEAT_VIOLATED and bench.money() == before
    shown = {name: value for name, value in refusal.details.items() if name not in {"requiredMsat", "leftMsat"}}
    return replace(refusal, details=shown)


def test_a_budget_that_is_used_up_says_when_it_renews_and_renews_then() -> None:
    bench, by = day_begun(), daily(COST + LEAST - 1)
    spends(bench, "a", by)
    bench.now_ms = MIDNIGHT_MS - 1_500
    refusal = refused(bench, by)
    assert refusal.details == {
        "caveat": f"max_msat_per = {COST + LEAST - 1}/day",
        "renewsAt": "2027-01-16T00:00:00.000Z",
    }
    assert (refusal.retry_after_s, "renews at 2027-01-16" in refusal.message) == (2, True)
    bench.now_ms = MIDNIGHT_MS - 1
    assert refused(bench, by).retry_after_s == 1
    bench.now_ms = MIDNIGHT_MS
    spends(bench, "b", by)
    assert used(bench) == {"d": COST}


def test_what_is_under_way_counts_and_what_is_released_can_be_spent_again() -> None:
    bench, by = day_begun(), daily(7_000)
    for name in "abc":
        bench.send(ask(name, by=by))
        assert bench.held(name).max_tokens == (7_000 - 4_536) // 14
        assert "renewsAt" in refused(bench, by).details
        bench.fail(f"request:ask:{name}")
    bench.send(ask("d", by=by))
    bench.crash()
    assert (bench.state.counters, bench.state.windows, bench.state.beneath) == ({}, {}, {})
    bench.send(ask("e", by=by))


@pytest.mark.parametrize("end", ["answer", "reject", "fail", "crash"])
@pytest.mark.parametrize("used_after", [False, True])
def test_a_request_counts_in_the_window_of_its_hold_whenever_it_ends(end: str, used_after: bool) -> None:
    bench, by = day_begun(), daily(20_000)
    bench.now_ms = MIDNIGHT_MS - 1
    bench.send(ask("a", by=by))
    held = bench.money()[1]
    bench.now_ms = MIDNIGHT_MS
    if used_after:
        # The new window has all of the budget, though the old one's hold is still there.
        bench.send(ask("b", by=by))
        assert bench.money()[1] == held + used(bench)["d"] and used(bench)["d"] == held
    match end:
        case "answer":
            bench.answer(completed(), "a")
        case "reject":
            bench.answer(rejected(), "a")
        case "fail":
            bench.fail("request:ask:a")
        case "crash":
            bench.crash(len(bench.journal) // 2)
    if used_after:
        # What the old window's hold releases is not given to the new one.
        assert used(bench) == ({} if end == "crash" else {"d": held})
        if end != "crash":
            assert refused(bench, by).details["renewsAt"] == "2027-01-17T00:00:00.000Z"
    bench.send(ask("c", by=by if end == "crash" or not used_after else daily(20_000, "other")))
    assert bench.held("c").max_tokens == 1_000


def test_all_periods_of_a_chain_hold_together() -> None:
    bench = day_begun()
    by = grant(("w", 5 * COST, Period.WEEK), ("d", 3 * COST, Period.DAY), ("h", 2 * COST, Period.HOUR))
    # A Friday, 23:00.
    spends(bench, "a", by)
    spends(bench, "b", by)
    assert refused(bench, by).details["caveat"] == f"max_msat_per = {2 * COST}/hour"
    bench.now_ms = MIDNIGHT_MS
    for name in "cd":
        spends(bench, name, by)
    assert used(bench) == {"w": 4 * COST, "d": 2 * COST, "h": 2 * COST}
    bench.now_ms += HOUR_MS
    spends(bench, "e", by)
    # The week is over on Monday, and the day before that: the one that lasts longer is named.
    refusal = refused(bench, by)
    assert refusal.details == {"caveat": f"max_msat_per = {5 * COST}/week", "renewsAt": "2027-01-18T00:00:00.000Z"}


def test_a_refusal_that_waiting_does_not_mend_promises_no_renewal() -> None:
    bench = day_begun()
    small = refused(bench, daily(LEAST - 1))
    assert (small.details, small.retry_after_s) == ({"caveat": f"max_msat_per = {LEAST - 1}/day"}, None)
    both = grant(("d", COST + 1, Period.DAY), ("t", COST))
    spends(bench, "a", both)
    assert refused(bench, both).details == {"caveat": f"max_msat = {COST}"}
    bench.now_ms = MIDNIGHT_MS
    assert refused(bench, both).details == {"caveat": f"max_msat = {COST}"}


def test_credentials_derived_from_one_share_its_budget_and_siblings_do_not() -> None:
    bench = day_begun()
    above = ("p", 2 * COST + LEAST - 1, Period.DAY)
    one, other = grant(above, ("1", 10 * COST // 8, Period.HOUR)), grant(above, ("2", 10 * COST))
    spends(bench, "a", one)
    spends(bench, "b", other)
    for by in (grant(above), other):
        assert refused(bench, by).details["caveat"].startswith("max_msat_per = ")
    spends(bench, "c", daily(COST, "sibling"))


@pytest.mark.parametrize("behind_ms", [1, HOUR_MS, 30 * DAY_MS])
def test_a_host_whose_clock_is_behind_gives_no_window_a_second_budget(behind_ms: int) -> None:
    bench, by = day_begun(), daily(COST + LEAST - 1)
    spends(bench, "a", by)
    bench.now_ms = MIDNIGHT_MS + 5
    # Nothing counts in the new window any more, and the old one's count is gone.
    bench.send(ask("b", by=by))
    bench.fail("request:ask:b")
    assert used(bench) == {}
    bench.now_ms -= 5 + behind_ms
    spends(bench, "c", by)
    assert refused(bench, by).details["renewsAt"] == "2027-01-17T00:00:00.000Z"
    bench.crash(len(bench.journal) - 1)
    refused(bench, by)


def test_windows_that_are_over_are_dropped_with_all_that_belongs_to_them() -> None:
    bench = day_begun()
    lasting = ("total", 10**9)
    for number in range(20):
        spends(bench, f"h{number}", grant(lasting, (f"h{number}", COST, Period.HOUR)))
        spends(bench, f"w{number}", grant((f"w{number}", 2 * COST, Period.WEEK), (f"t{number}", COST)))
    assert len(bench.state.windows) == 40 and bench.state.beneath["total"] == 20
    bench.now_ms = MIDNIGHT_MS
    bench.send(ask("z"))
    assert set(bench.state.windows) == {f"w{number}" for number in range(20)}
    assert bench.state.beneath == {f"w{number}": 1 for number in range(20)}
    assert len(bench.state.counters) == 41
    bench.fail("request:ask:z")
    bench.now_ms += 3 * DAY_MS
    assert refusal_of(bench.send(ask("y"))).code is Code.EXPIRED


def test_counts_of_windows_that_are_over_take_no_place_of_others() -> None:
    bench = day_begun()
    above, many = ("p", 10**9), 4_096
    spends(bench, "a", grant(above, ("x", COST, Period.DAY)))
    state = bench.state
    taken = {f"taken{number}": state.windows["x"] for number in range(many - 1)}
    counters = {**state.counters, **dict.fromkeys(taken, state.counters["x"])}
    bench.session = replace(state, counters=counters, windows={**state.windows, **taken}, beneath={"p": many})
    new = grant(above, ("y", COST, Period.DAY))
    assert refused(bench, new).details["caveat"] == f"max_msat_per = {COST}/day"
    bench.now_ms = MIDNIGHT_MS
    bench.send(ask("b", by=new))
    assert set(bench.state.counters) == {"p", "y"} and bench.state.beneath == {"p": 1}


def test_nothing_is_paid_out_to_a_credential_with_a_budget() -> None:
    bench = day_begun()
    refusal = refusal_of(bench.send(close(target(7, 90), by=daily(10**9))))
    assert refusal.details == {"caveat": f"max_msat_per = {10**9}/day"}


def test_a_hold_of_a_journal_without_windows_counts_for_good() -> None:
    """A host of an earlier version took the budget for a limit in all; its count is the present window's."""
    bench, by = day_begun(), daily(COST + LEAST - 1)
    bench.send(ask("a", by=by))
    older = list(bench.journal)
    placed = msgspec.json.decode(older[-1])
    del placed["hold"]["limits"]
    older[-1] = msgspec.json.encode(placed)
    bench.journal, bench.session = older, None
    for data in older:
        bench.session = bench.behaviour.evolve("ses", bench.session, bench.behaviour.decode_event(data))
    bench.answer(completed(), "a")
    assert used(bench) == {"d": COST} and bench.state.windows == {}
    assert "renewsAt" in refused(bench, by).details
    bench.send(ask("b", by=grant(("d", 10 * COST, Period.DAY))))
    assert set(bench.state.windows) == {"d"}
    bench.answer(completed(), "b")
    bench.now_ms = MIDNIGHT_MS
    spends(bench, "c", by)
    assert used(bench) == {"d": COST}

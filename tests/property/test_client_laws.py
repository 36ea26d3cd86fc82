"""Whatever gets lost, fails or dies: the client pays no more than its budget, nothing twice, and loses no session."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from satmeter.client.errors import SatmeterError
from satmeter.client.flow import Request
from tests.helpers.client_lnbits import LNBITS
from tests.helpers.client_world import DiedError, World

FAULTS = st.sampled_from([None, None, None, "lost", "unanswered", "503", "died", "died after"])
OUTCOMES = st.sampled_from(["success", "refused", "failed", "pending", "pending-failed", "stuck"])
CALLS = st.sampled_from(["ask", "ask", "ask", "top up", "wait", "wait long", "close"])


def _call(world: World, core: Any, what: str, number: int) -> None:
    match what:
        case "ask":
            world.play(core.sessions.ask({"request": f"r{number}"}, f"k{number}", None))
        case "top up":
            world.play(core.sessions.top_up(40))
        case "close":
            world.play(core.refunds.close(None))
        case "wait":
            world.clock_s += 60
        case "wait long":
            world.clock_s += 7_200


@settings(max_examples=100, deadline=None)
@given(
    budget_sats=st.integers(0, 400),
    calls=st.lists(CALLS, max_size=12),
    faults=st.lists(FAULTS, max_size=80),
    script=st.lists(OUTCOMES, max_size=6),
)
def test_what_is_paid_stays_within_the_budget_and_is_all_there(
    budget_sats: int, calls: list[str], faults: list[str | None], script: list[str]
) -> None:
    world = World()
    world.lnbits.script = list(script)
    waiting = iter(faults)

    def fault(request: Request) -> str | None:
        found = next(waiting, None)
        # LNbits gives no 503 of the server's kind.
        return "unanswered" if found == "503" and request.url.startswith(LNBITS) else found

    world.fault = fault
    core = world.core(budget_sats, deposit_sats=50, top_up_sats=30)
    for number, what in enumerate(calls):
        try:
            _call(world, core, what, number)
        except SatmeterError:
            pass
        except DiedError:
            core = world.core(budget_sats, deposit_sats=50, top_up_sats=30)
        state = world.store.read()
        assert world.lnbits.paid_sats <= state.committed_sats <= budget_sats
        in_doubt = sum(amount for amount, status, _ in world.lnbits.rows.values() if status == "pending") // 1_000
        assert world.lnbits.paid_sats + in_doubt <= budget_sats
    assert len(world.lnbits.orders) == len(set(world.lnbits.orders)), "an invoice was ordered twice"
    assert len(world.server.answered) == len(set(world.server.answered)), "a request was charged twice"
    _nothing_is_lost(world)


def _nothing_is_lost(world: World) -> None:
    """Every session that has money in it is one whose macaroon is still known."""
    state = world.store.read()
    known = {c.session_id for c in (state.session, *state.former) if c is not None}
    for session in world.server.sessions.values():
        left_msat = session.owed + session.balance
        # Less than the server's least reserve for routing can't be paid out to anybody.
        assert left_msat < 3_000 or session.session_id in known

"""The client's wallet at an LNbits that answers late or says `failed` too early: nothing is paid twice or forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from satmeter.client.errors import PaymentFailedError, PaymentInDoubtError
from satmeter.client.flow import Reply, Request
from satmeter.client.payments import PATIENCE_S
from satmeter.client.state import FileStore
from tests.helpers.client_lnbits import LNBITS, reply
from tests.helpers.client_world import SERVER, DiedError, World
from tests.unit.client.test_payments import ask, is_order

PENDING = None
NO_ROUTE = reply(520, {"detail": "Payment failed: no route.", "status": "failed"})


def slow(*course: tuple[float, str | None], answer: Reply | None = PENDING, answered: bool = False) -> World:
    """An LNbits whose list goes this course, and whose paying call is not answered unless it is said."""
    world = World()
    world.lnbits.course, world.lnbits.answer = list(course), answer
    world.fault = lambda request: "unanswered" if is_order(request) and not answered else None
    return world


def in_doubt(world: World, core: Any) -> None:
    """The payment counts, and nothing else is paid."""
    orders = len(world.lnbits.orders)
    with pytest.raises(PaymentInDoubtError):
        ask(world, core)
    assert (len(world.lnbits.orders), core.payments.committed_sats) == (max(1, orders), 50)


@pytest.mark.parametrize("answered", [False, True])
def test_a_payment_that_is_called_failed_before_it_is_made_is_waited_for(answered: bool) -> None:
    """The call outlasts the time-out, or is answered by "pending"; the list says `failed` for 25 seconds."""
    world = slow((0, "failed"), (25, "success"), answered=answered)
    core = world.core(50, deposit_sats=50)
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats, core.payments.committed_sats) == (1, 50, 50)


def test_a_payment_that_is_called_failed_for_minutes_counts_until_it_is_certain() -> None:
    world = slow((0, "failed"), (200, "success"))
    core = world.core(100, deposit_sats=50)
    in_doubt(world, core)
    in_doubt(world, core)
    world.clock_s += 140
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats, core.payments.committed_sats) == (1, 50, 50)


@pytest.mark.parametrize("status", ["failed", None])
def test_after_five_minutes_a_failure_is_believed_and_the_budget_is_free_again(status: str | None) -> None:
    world = slow((0, status))
    core = world.core(50, deposit_sats=50)
    in_doubt(world, core)
    world.clock_s += PATIENCE_S - 70
    in_doubt(world, core)
    world.fault = lambda request: None
    world.clock_s += 11
    if status is None:
        # It never arrived there, and the same invoice is paid now.
        world.lnbits.rows.clear()
    else:
        with pytest.raises(PaymentFailedError):
            ask(world, core)
        assert core.payments.committed_sats == 0
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats, core.payments.committed_sats) == (2, 50, 50)


def test_pending_begins_the_patience_again() -> None:
    world = slow((0, "failed"), (240, "pending"), (262, "failed"), (350, "success"))
    core = world.core(100, deposit_sats=50)
    in_doubt(world, core)
    world.clock_s += 179
    in_doubt(world, core)
    # Half of the patience after its last word at least.
    for _ in range(2):
        world.clock_s += 30
        in_doubt(world, core)
    world.clock_s += 60
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats) == (1, 50)


def test_what_the_call_and_the_list_call_failed_has_failed() -> None:
    world = slow((0, "failed"), answer=NO_ROUTE, answered=True)
    core = world.core(50, deposit_sats=50)
    with pytest.raises(PaymentFailedError, match="no route"):
        ask(world, core)
    assert core.payments.committed_sats == 0


def test_what_the_call_calls_failed_and_the_list_pending_is_open() -> None:
    world = slow((0, "pending"), (70, "success"), answer=NO_ROUTE, answered=True)
    core = world.core(50, deposit_sats=50)
    in_doubt(world, core)
    world.clock_s += 20
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats) == (1, 50)


def test_a_client_that_was_started_again_has_the_same_patience(tmp_path: Path) -> None:
    world = slow((0, "failed"), (250, "success"))
    world.store = FileStore(tmp_path / "client.json", SERVER)  # type: ignore[assignment]
    world.fault = lambda request: "died after" if is_order(request) else None
    with pytest.raises(DiedError):
        ask(world, world.core(50, deposit_sats=50))
    world.fault = lambda request: None
    world.clock_s += 60
    in_doubt(world, world.core(50, deposit_sats=50))
    world.clock_s += 190
    core = world.core(50, deposit_sats=50)
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats, core.payments.committed_sats) == (1, 50, 50)


def test_a_machine_that_slept_before_its_order_left_begins_the_patience_then() -> None:
    world = slow((0, "failed"), (100, "success"))

    def sleeps(request: Request) -> str | None:
        if not is_order(request):
            return None
        world.clock_s += 600
        return "unanswered"

    world.fault = sleeps
    core = world.core(50, deposit_sats=50)
    in_doubt(world, core)
    world.clock_s += 60
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats) == (1, 50)


def test_an_order_that_waited_for_long_is_not_sent() -> None:
    world = World()

    def slow_list(request: Request) -> None:
        if request.url.startswith(LNBITS) and request.method == "GET":
            world.clock_s += 31

    world.fault = slow_list
    core = world.core(50, deposit_sats=50)
    with pytest.raises(PaymentFailedError, match="too long"):
        ask(world, core)
    assert (world.lnbits.orders, core.payments.committed_sats) == ([], 0)

"""Several callers with one wallet, and payments that are not seen yet: each counts once, and none for another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from satmeter.client.errors import BudgetExceededError, PaymentInDoubtError, PaymentNotSeenError
from satmeter.client.flow import Flow
from satmeter.client.models import Invoice
from satmeter.client.state import Payment, replaced
from satmeter.client.wallets import CallbackWallet
from tests.helpers.client_world import World


def asked(core: Any, number: int) -> Flow[Any]:
    """A request."""
    flow: Flow[Any] = core.sessions.ask({"request": f"r{number}"}, f"k{number}", None)
    return flow


def invoice_of(made: Any) -> Invoice:
    """As the client reads it."""
    return msgspec.convert(made, Invoice)


def payment_of(made: Any, purpose: str) -> Payment:
    """One that was begun."""
    return Payment(invoice=invoice_of(made), purpose=purpose, begun_at=datetime.now(UTC))


def unseen(world: World, deposit_sats: int = 50) -> Any:
    """A client that has paid a deposit which the server does not see."""
    credit, world.server.credit = world.server.credit, lambda payment_hash: None  # type: ignore[method-assign]
    core = world.core(60, deposit_sats=deposit_sats)
    with pytest.raises(PaymentNotSeenError):
        world.play(asked(core, 0))
    world.server.credit = credit  # type: ignore[method-assign]
    return core


# Several callers


def test_of_two_callers_whose_balance_does_not_suffice_one_tops_up() -> None:
    world = World()
    core = world.core(deposit_sats=15, top_up_sats=40)
    world.play(asked(core, 0))
    rests = [world.until_alone(asked(core, number)) for number in (1, 2)]
    assert [rest().text for rest in rests] == ["answer to r1", "answer to r2"]
    assert (world.lnbits.paid_sats, len(world.lnbits.orders)) == (15 + 40, 2)


def test_of_two_callers_each_tops_up_where_what_the_other_paid_is_spent() -> None:
    world = World()
    core = world.core(deposit_sats=15, top_up_sats=5)
    world.play(asked(core, 0))
    rests = [world.until_alone(asked(core, number)) for number in (1, 2)]
    assert [rest().text for rest in rests] == ["answer to r1", "answer to r2"]
    assert world.lnbits.paid_sats == 15 + 5 + 10


def test_of_two_callers_without_a_session_one_opens_it() -> None:
    world = World()
    core = world.core(deposit_sats=50)
    rests = [world.until_alone(asked(core, number)) for number in (1, 2)]
    assert [rest().text for rest in rests] == ["answer to r1", "answer to r2"]
    assert (len(world.server.sessions), world.lnbits.paid_sats) == (1, 50)


def test_of_two_callers_whose_deposit_was_never_paid_one_pays_it() -> None:
    world = World()
    core = world.core(deposit_sats=50)
    world.play(asked(core, 0))
    (session,) = world.server.sessions.values()
    session.deposited = session.spent = 0
    session.entries.clear()
    world.lnbits.rows.clear()
    world.lnbits.orders.clear()
    world.store.change(lambda state: replaced(state, paid_sats=0))
    rests = [world.until_alone(asked(core, number)) for number in (1, 2)]
    assert [rest().text for rest in rests] == ["answer to r1", "answer to r2"]
    assert (len(world.lnbits.orders), core.payments.committed_sats) == (1, 50)


# Payments that the server has not seen


def test_a_payment_that_is_not_seen_counts_towards_the_budget() -> None:
    world = World()
    core = unseen(world)
    assert (core.payments.committed_sats, core.payments.left_sats, world.lnbits.paid_sats) == (50, 10, 50)
    sent = len(world.sent)
    with pytest.raises(BudgetExceededError) as refused:
        world.play(core.sessions.top_up(40))
    assert refused.value.left_sats == 10
    assert len(world.sent) == sent, "an invoice was ordered that can't be paid"
    (session,) = world.server.sessions.values()
    # What orders its invoice by itself, as jobs do, is held to the budget as well.
    made = invoice_of(world.server.invoice(session, 40))
    with pytest.raises(BudgetExceededError):
        world.play(core.payments.alone(lambda: core.payments.pay(made, 40, session.session_id)))
    assert len(world.lnbits.orders) == 1
    again = world.core(60, deposit_sats=50)
    assert (again.payments.committed_sats, again.payments.left_sats) == (50, 10)


def test_a_payment_that_is_not_seen_is_ordered_once_and_holds_up_no_other() -> None:
    world = World()
    core = unseen(world)
    with pytest.raises(PaymentNotSeenError):
        world.play(asked(core, 1))
    assert len(world.lnbits.orders) == 1
    status = world.play(core.sessions.top_up(10))
    assert (len(world.lnbits.orders), status.deposited_msat, core.payments.left_sats) == (2, 10_000, 0)


def test_what_a_wallet_has_paid_is_not_ordered_again_while_the_server_does_not_see_it() -> None:
    world, paid = World(), list[str]()
    wallet = CallbackWallet(lambda invoice: paid.append(invoice.payment_hash), look_up=lambda invoice: True)
    core = world.core(100, wallet, deposit_sats=50)
    for number in range(3):
        with pytest.raises(PaymentNotSeenError):
            world.play(asked(core, number))
    assert len(paid) == 1 and core.payments.committed_sats == 50
    world.server.credit(paid[0])
    assert world.play(asked(core, 3)).text == "answer to r3"
    assert len(paid) == 1 and core.payments.committed_sats == 50


@pytest.mark.parametrize("seen", [True, False])
def test_a_former_payment_that_arrives_meanwhile_is_not_taken_for_this_one(seen: bool) -> None:
    world = World()
    world.lnbits.script = ["success", "stuck"]
    core = world.core(200, deposit_sats=50)
    world.play(asked(core, 0))
    with pytest.raises(PaymentInDoubtError):
        world.play(core.sessions.top_up(20))
    if seen:
        world.server.credit(world.lnbits.orders[1])
    else:
        world.lnbits.rows[world.lnbits.orders[1]][2] = 1
    status = world.play(core.sessions.top_up(30))
    assert (status.deposited_msat, core.payments.committed_sats) == (100_000, 100)


# Whether a payment has arrived


def test_another_deposit_is_not_taken_for_this_payment() -> None:
    world = World()
    core = world.core(deposit_sats=50)
    world.play(asked(core, 0))
    (session,) = world.server.sessions.values()
    made = world.server.invoice(session, 20)
    payment = payment_of(made, session.session_id)
    assert not world.play(core.accounts.seen(payment))
    # Lapsed: the server lists it no more.
    held = session.invoices.pop(made["paymentHash"])
    assert not world.play(core.accounts.seen(payment))
    session.invoices[made["paymentHash"]] = held
    world.server.credit(made["paymentHash"])
    assert world.play(core.accounts.seen(payment))


def test_a_payment_is_looked_for_in_the_session_that_it_is_for() -> None:
    world = World()
    core = world.core(deposit_sats=50)
    world.play(asked(core, 0))
    (former,) = world.server.sessions.values()
    (entry,) = former.entries
    paid = {"paymentHash": entry["paymentHash"], "amountSats": 50, "paymentRequest": "x", "expiresAt": world.at(9)}
    core.accounts.retire(core.accounts.known())
    world.play(asked(core, 1))
    assert len(world.server.sessions) == 2
    assert world.play(core.accounts.seen(payment_of(paid, former.session_id)))
    assert not world.play(core.accounts.seen(payment_of(paid, core.accounts.known().session_id)))
    assert not world.play(core.accounts.seen(payment_of(paid, "ses_of_nobody")))


@pytest.mark.parametrize(
    ("state", "eval_seen", "work_seen"),
    [
        ("awaiting_eval_payment", False, None),
        ("evaluating", True, None),
        ("awaiting_work_payment", True, False),
        ("executing", True, True),
        ("complete", True, True),
    ],
)
def test_the_payment_of_an_evaluation_is_not_taken_for_that_of_the_work(
    state: str, eval_seen: bool, work_seen: bool | None
) -> None:
    world = World()
    first, second = world.invoice(10), world.invoice(100)
    job = {"jobId": "job_1", "state": state, "createdAt": world.at(0), "updatedAt": world.at(0), "evalInvoice": first}
    world.server.jobs["/jobs/job_1"] = job if work_seen is None else {**job, "workInvoice": second}
    core = world.core()
    assert world.play(core.jobs.seen(payment_of(first, "job_1"))) is eval_seen
    if work_seen is not None:
        assert world.play(core.jobs.seen(payment_of(second, "job_1"))) is work_seen

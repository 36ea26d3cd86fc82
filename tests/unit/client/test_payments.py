"""The client's payments: what is paid, what is not, and what is left open until it is known."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest

from satmeter.client.errors import (
    BudgetExceededError,
    NoSessionError,
    PaymentFailedError,
    PaymentInDoubtError,
    PaymentNotSeenError,
    WalletError,
    WrongInvoiceError,
)
from satmeter.client.flow import Request
from satmeter.client.models import Invoice
from satmeter.client.payments import PATIENCE_S
from satmeter.client.wallets import CallbackWallet, LnbitsWallet, TerminalWallet
from tests.helpers.client_lnbits import ADMIN_KEY, LNBITS, reply
from tests.helpers.client_world import SERVER, DiedError, World


def ask(world: World, core: Any, number: int = 0) -> Any:
    return world.play(core.sessions.ask({"request": f"r{number}"}, f"k{number}", None))


def is_order(request: Request) -> bool:
    return request.url.startswith(LNBITS) and request.method == "POST" and b'"out":true' in (request.body or b"")


def test_a_first_request_opens_a_session_pays_its_deposit_and_is_answered() -> None:
    world = World()
    core = world.core(deposit_sats=50)
    assert ask(world, core).text == "answer to r0"
    assert (world.lnbits.paid_sats, core.payments.committed_sats, core.payments.left_sats) == (50, 50, 950)


def test_without_a_budget_nothing_is_paid_unless_it_was_asked_for() -> None:
    world = World()
    core = world.core(None)
    with pytest.raises(NoSessionError):
        ask(world, core)
    assert world.play(core.sessions.open(50)).balance_sats == 50
    assert world.lnbits.paid_sats == 50 and core.payments.left_sats is None


def test_a_balance_that_does_not_suffice_is_topped_up_and_the_request_charged_once() -> None:
    world = World()
    core = world.core(deposit_sats=15, top_up_sats=40)
    ask(world, core, 1)
    assert ask(world, core, 2).balance_sats == 15 - 20 + 40
    assert world.lnbits.paid_sats == 55 and world.server.answered == ["r1", "r2"]


def test_a_top_up_is_as_large_as_the_budget_allows_and_no_larger() -> None:
    world = World()
    core = world.core(40, deposit_sats=15, top_up_sats=100)
    for number in range(4):
        ask(world, core, number)
    with pytest.raises(BudgetExceededError) as caught:
        ask(world, core, 5)
    assert (caught.value.left_sats, caught.value.budget_sats) == (0, 40)
    assert world.lnbits.paid_sats == 40


def test_a_session_that_is_known_is_used_by_the_next_process() -> None:
    world = World()
    ask(world, world.core(deposit_sats=50), 1)
    ask(world, world.core(deposit_sats=50), 2)
    assert len(world.server.sessions) == 1 and world.lnbits.paid_sats == 50


@pytest.mark.parametrize(
    "change",
    [
        {"amountSats": 49},
        {"paymentHash": "ab" * 32},
        {"paymentRequest": "lnbc1nonsense"},
        {"expiresAt": "2001-01-01T00:00:00Z"},
    ],
    ids=["amount", "hash", "text", "lapsed"],
)
def test_an_invoice_that_is_not_what_was_asked_for_is_not_paid(change: dict[str, Any]) -> None:
    world = World()
    world.server.invoice_changes = change
    with pytest.raises(WrongInvoiceError):
        ask(world, world.core(deposit_sats=50))
    assert world.lnbits.orders == []


def test_an_invoice_whose_text_is_over_more_than_it_says_is_not_paid() -> None:
    world = World()
    world.server.invoice_changes = {"paymentRequest": world.invoice(5_000)["paymentRequest"]}
    with pytest.raises(WrongInvoiceError, match="5000000 msat"):
        ask(world, world.core(deposit_sats=50))
    assert world.lnbits.orders == []


@pytest.mark.parametrize("outcome", ["refused", "no-route"])
def test_a_payment_that_failed_for_certain_frees_the_budget(outcome: str) -> None:
    world = World()
    world.lnbits.script = [outcome]
    core = world.core(50, deposit_sats=50)
    with pytest.raises(PaymentFailedError):
        ask(world, core, 1)
    assert core.payments.committed_sats == 0
    assert ask(world, core, 2).text == "answer to r2"


def test_a_payment_that_takes_long_is_waited_for() -> None:
    world = World()
    world.lnbits.script = ["pending"]
    assert ask(world, world.core(deposit_sats=50)).text == "answer to r0"
    assert len(world.lnbits.orders) == 1


def test_while_a_payment_is_in_doubt_nothing_else_is_paid_and_it_counts() -> None:
    world = World()
    world.lnbits.script = ["stuck"]
    core = world.core(100, deposit_sats=50)
    with pytest.raises(PaymentInDoubtError):
        ask(world, core, 1)
    with pytest.raises(PaymentInDoubtError):
        ask(world, core, 2)
    assert (len(world.lnbits.orders), core.payments.committed_sats) == (1, 50)
    world.lnbits.rows[world.lnbits.orders[0]][2] = 1
    assert ask(world, core, 3).text == "answer to r3"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats, core.payments.committed_sats) == (1, 50, 50)


def test_an_answer_that_was_lost_after_the_payment_pays_nothing_again() -> None:
    world = World()
    world.fault = lambda request: "unanswered" if is_order(request) else None
    assert ask(world, world.core(deposit_sats=50)).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats) == (1, 50)


def test_a_client_that_died_after_its_payment_goes_on_with_it() -> None:
    world = World()
    world.fault = lambda request: "died after" if is_order(request) else None
    with pytest.raises(DiedError):
        ask(world, world.core(50, deposit_sats=50))
    world.fault = lambda request: None
    core = world.core(50, deposit_sats=50)
    assert core.payments.committed_sats == 50
    assert ask(world, core).text == "answer to r0"
    assert (len(world.lnbits.orders), world.lnbits.paid_sats, core.payments.committed_sats) == (1, 50, 50)


def test_an_order_that_was_lost_on_its_way_is_open_until_the_wallet_can_be_believed() -> None:
    world = World()
    world.fault = lambda request: "unanswered" if is_order(request) else None
    handle = world.lnbits.handle

    def breaks(request: Request) -> Any:
        return reply(500, {}) if is_order(request) else handle(request)

    world.lnbits.handle = breaks  # type: ignore[method-assign]
    core = world.core(50, deposit_sats=50)
    with pytest.raises(PaymentInDoubtError):
        ask(world, core)
    assert core.payments.committed_sats == 50
    world.clock_s += 300
    world.fault = lambda request: None
    world.lnbits.handle = handle  # type: ignore[method-assign]
    # The first invoice is still good, and was never paid.
    assert ask(world, core).text == "answer to r0"
    assert world.lnbits.paid_sats == 50


def test_a_wallet_that_can_not_be_asked_is_ordered_nothing() -> None:
    world = World()
    core = world.core(50, LnbitsWallet(LNBITS, "another-key"), deposit_sats=50)
    with pytest.raises(PaymentFailedError, match="admin key"):
        ask(world, core)
    assert core.payments.committed_sats == 0 and not any(is_order(request) for request in world.sent)


def test_a_payment_that_the_server_does_not_see_is_paid_for_and_not_paid_again() -> None:
    world = World()
    credit, world.server.credit = world.server.credit, lambda payment_hash: None  # type: ignore[method-assign]
    core = world.core(100, deposit_sats=50)
    with pytest.raises(PaymentNotSeenError) as caught:
        ask(world, core)
    credit(caught.value.invoice.payment_hash)
    world.server.credit = credit  # type: ignore[method-assign]
    assert ask(world, core).text == "answer to r0"
    assert world.lnbits.paid_sats == 50


def _callback(world: World, outcome: Any) -> CallbackWallet:
    def pay(invoice: Invoice) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not False:
            world.server.credit(invoice.payment_hash)
        return outcome

    return CallbackWallet(pay)


def test_a_function_pays_and_what_it_raises_leaves_it_open() -> None:
    world = World()
    assert ask(world, world.core(50, _callback(world, None), deposit_sats=50)).text == "answer to r0"
    world = World()
    with pytest.raises(PaymentFailedError):
        ask(world, world.core(50, _callback(world, False), deposit_sats=50))
    world = World()
    core = world.core(100, _callback(world, OSError("the admin key is 1234")), deposit_sats=50)
    with pytest.raises(PaymentInDoubtError) as caught:
        ask(world, core)
    assert "1234" not in str(caught.value) and core.payments.committed_sats == 50


@pytest.mark.parametrize(("known", "paid"), [(True, 50), (False, 0)])
def test_a_look_up_function_ends_the_doubt(known: bool, paid: int) -> None:
    world = World()

    def pay(invoice: Invoice) -> None:
        if known:
            world.server.credit(invoice.payment_hash)
        raise TimeoutError

    core = world.core(100, CallbackWallet(pay, look_up=lambda invoice: known), deposit_sats=50)
    if known:
        assert ask(world, core).text == "answer to r0"
    else:
        with pytest.raises(PaymentFailedError):
            ask(world, core)
    assert core.payments.committed_sats == paid


def test_a_person_is_shown_the_invoice_and_a_code_and_waited_for() -> None:
    world, out = World(), io.StringIO()
    core = world.core(100, TerminalWallet(out), deposit_sats=50)
    looked: list[str] = []

    def paid_at_the_third_look(request: Request) -> None:
        if request.url.startswith(f"{SERVER}/sessions/") and request.method == "GET":
            looked.append(request.url)
            if len(looked) == 4:
                world.server.credit(next(iter(world.server.owners)))

    world.fault = paid_at_the_third_look
    assert ask(world, core).text == "answer to r0"
    assert "50 sats" in out.getvalue() and "█" in out.getvalue() and "lnbcrt" in out.getvalue()


@pytest.mark.parametrize(("lines", "fits"), [(24, False), (60, True)])
def test_the_sum_is_the_last_that_is_shown_and_a_terminal_that_is_too_small_is_named(
    lines: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, lines)))
    world, out = World(), io.StringIO()
    world.fault = lambda request: "died" if out.getvalue() else None
    with pytest.raises(DiedError):
        ask(world, world.core(100, TerminalWallet(out), deposit_sats=50))
    shown = out.getvalue().splitlines()
    assert shown[-2].startswith("Please pay 50 sats until ") and shown[-1].startswith("Waiting for the payment")
    code = max(number for number, line in enumerate(shown) if "█" in line)
    below = sum(-(-max(1, len(line)) // 80) for line in shown[code + 1 :])
    assert ("this terminal has 80 and 24." in out.getvalue()) is not fits
    if fits:
        assert code + below <= lines
    else:
        assert below < lines and "copy the invoice" in out.getvalue()


def test_a_person_who_does_not_pay_in_time_has_paid_nothing() -> None:
    world = World()
    core = world.core(100, TerminalWallet(io.StringIO()), deposit_sats=50)
    with pytest.raises(PaymentFailedError, match="in time"):
        ask(world, core)
    assert core.payments.committed_sats == 0


def test_a_person_who_interrupted_the_wait_is_shown_the_same_invoice_again() -> None:
    world, out = World(), io.StringIO()
    world.fault = lambda request: "died" if out.getvalue() else None
    with pytest.raises(DiedError):
        ask(world, world.core(100, TerminalWallet(out), deposit_sats=50))
    again = io.StringIO()

    def fault(request: Request) -> None:
        if again.getvalue() and not world.server.sessions[next(iter(world.server.sessions))].entries:
            world.server.credit(next(iter(world.server.owners)))

    world.fault = fault
    core = world.core(100, TerminalWallet(again), deposit_sats=50)
    assert ask(world, core).text == "answer to r0"
    (invoice,) = {line for line in out.getvalue().splitlines() if line.startswith("lnbcrt")}
    assert invoice in again.getvalue() and core.payments.committed_sats == 50


def test_what_a_person_was_shown_is_paid_by_no_program_while_it_can_be_paid() -> None:
    """LNbits has never heard of it: for a payment of its own that would mean, after a while, that nothing was paid."""
    world, out = World(), io.StringIO()
    world.fault = lambda request: "died" if out.getvalue() else None
    with pytest.raises(DiedError):
        ask(world, world.core(100, TerminalWallet(out), deposit_sats=50))
    world.fault = lambda request: None
    world.clock_s += 2 * PATIENCE_S
    with pytest.raises((PaymentInDoubtError, PaymentNotSeenError)):
        ask(world, world.core(100, deposit_sats=50))
    assert world.core(100).payments.committed_sats == 50
    assert world.lnbits.orders == []


def test_a_wallet_without_a_way_to_receive_says_so() -> None:
    world = World()
    core = world.core(100, CallbackWallet(lambda invoice: None))
    with pytest.raises(WalletError):
        world.play(core.payments.receive(5, "memo"))


def test_secrets_show_in_no_repr_and_no_error() -> None:
    world = World()
    core = world.core(deposit_sats=50)
    ask(world, core)
    credential = core.accounts.known()
    shown = f"{credential!r} {world.sent!r} {LnbitsWallet(LNBITS, ADMIN_KEY)!r} {world.store.read()!r}"
    assert credential.macaroon not in shown and ADMIN_KEY not in shown

"""Refund over every backend: the rules of payouts and their effects drive it, whatever becomes of the order."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.behaviour import Done, Event, Failed, Intent
from satmeter.actors.domain.money import MSAT_PER_SAT, ZERO, Msat
from satmeter.actors.domain.payments import payout_flow
from satmeter.actors.domain.payments.intents import LookUpPayout, SendPayout
from satmeter.actors.domain.payments.payouts import (
    OwingBooks,
    PayoutFailed,
    PayoutPaid,
    PayoutRefusal,
    PayoutTarget,
    Refunds,
)
from satmeter.actors.effects.payout_calls import PayoutCalls
from satmeter.actors.ports import PortError
from tests.helpers.hosts import a_moment, until
from tests.helpers.jobs import FEES
from tests.helpers.patience import PATIENCE_S
from tests.lightning.world import Fate, World

ACTOR = "ses_0123456789abcdefghijklmnopqrstuv"
OWED_MSAT = Msat(1_000_000)
_START_MS = 1_800_000_000_000


class Debtor:
    """Actor that owes a refund: it folds its events, and runs its intents over the node. Its time runs by pauses."""

    def __init__(self, world: World) -> None:
        self.books, self.refunds = OwingBooks(owed=OWED_MSAT), Refunds()
        self.now_ms = _START_MS
        self.events: list[Event] = []
        self._calls = PayoutCalls(world.lightning, self._pause, lambda: self.now_ms, uptime_ms=lambda: self.now_ms)

    async def refund(self, target: PayoutTarget) -> None:
        """Pay out to an invoice, until the books know how it ended."""
        self.apply(payout_flow.start(self.refunds, self.books.owed, target, FEES, None, self.now_ms))
        await self.go_on()

    async def go_on(self) -> None:
        """Do what must be under way, until nothing is."""
        async with asyncio.timeout(PATIENCE_S):
            while self.refunds.under_way is not None:
                (intent,) = payout_flow.intents(ACTOR, self.refunds, FEES, ())
                event = payout_flow.outcome(self.refunds, await self.run(intent), self.now_ms)
                if event is not None:
                    self.apply(event)

    async def until(self, at_ms: int) -> None:
        """Return once it is that late."""

        async def is_late() -> bool:
            return self.now_ms >= at_ms

        await until(is_late)

    def crash(self) -> None:
        """Lose the call that is under way with its host, as an actor is read again."""
        event = payout_flow.taken_up(self.refunds, self.now_ms)
        if event is not None:
            self.apply(event)

    def apply(self, event: Event) -> None:
        self.events.append(event)
        self.books, self.refunds = payout_flow.fold(self.books, self.refunds, event)
        parts = (self.books.owed, self.books.pending, self.books.refunded, self.books.spent)
        assert sum(parts, ZERO) == OWED_MSAT

    async def run(self, intent: Intent) -> Done | Failed:
        try:
            if isinstance(intent, SendPayout):
                return Done(intent, await self._calls.send(intent))
            assert isinstance(intent, LookUpPayout)
            return Done(intent, await self._calls.look_up(intent))
        except PortError:
            return Failed(intent, permanent=False)

    async def _pause(self, delay_s: float) -> None:
        self.now_ms += int(delay_s * 1_000)
        await a_moment()


def need(world: World, fate: Fate) -> None:
    if fate not in world.fates:
        pytest.skip(f"{fate.name} can't be brought about at {world.name}")


@pytest.mark.parametrize("fate", [Fate.PAID, Fate.ANSWER_LOST, Fate.SLOW_THEN_PAID])
async def test_a_payment_that_was_made_is_booked_once_however_its_answer_came(world: World, fate: Fate) -> None:
    need(world, fate)
    target, before_msat = await world.foreign_invoice(900), await world.lightning.balance()
    world.next_payment(fate)
    debtor = Debtor(world)
    await debtor.refund(target)
    assert debtor.books.refunded == target.amount_msat
    paid_msat = before_msat - await world.lightning.balance()
    assert abs(paid_msat.value - (target.amount_msat + debtor.books.spent).value) < MSAT_PER_SAT
    assert isinstance(debtor.events[-1], PayoutPaid)
    assert world.orders(target.payment_hash) == 1


@pytest.mark.parametrize("fate", [Fate.FAILED, Fate.SLOW_THEN_FAILED, Fate.NOT_RECEIVED, Fate.REFUSED_FUNDS])
async def test_a_payment_that_was_not_made_is_owed_again_whole(world: World, fate: Fate) -> None:
    need(world, fate)
    target, before_msat = await world.foreign_invoice(900), await world.lightning.balance()
    world.next_payment(fate)
    debtor = Debtor(world)
    await debtor.refund(target)
    assert debtor.books == OwingBooks(owed=OWED_MSAT)
    assert isinstance(debtor.events[-1], PayoutFailed)
    assert await world.lightning.balance() == before_msat
    assert world.orders(target.payment_hash) <= 1
    # And the client gets its money to another invoice.
    second = await world.foreign_invoice(900)
    await debtor.refund(second)
    assert debtor.books.refunded == second.amount_msat


async def test_an_invoice_that_was_refused_for_lack_of_funds_can_be_sent_again(world: World) -> None:
    """Also where the node has the refused order in its books, as a payment that failed."""
    need(world, Fate.REFUSED_FUNDS)
    target = await world.foreign_invoice(900)
    world.next_payment(Fate.REFUSED_FUNDS)
    debtor = Debtor(world)
    await debtor.refund(target)
    assert debtor.refunds.last_refusal is PayoutRefusal.FUNDS
    await debtor.refund(target)
    assert debtor.books.refunded == target.amount_msat


@pytest.mark.parametrize("paid", [True, False])
async def test_a_payment_that_pends_for_long_is_neither_repeated_nor_given_up(world: World, paid: bool) -> None:
    need(world, Fate.PENDING)
    target = await world.foreign_invoice(900)
    world.next_payment(Fate.PENDING)
    debtor = Debtor(world)
    going = asyncio.create_task(debtor.refund(target))
    # Longer than the patience with a failure: "pending" has none.
    await debtor.until(_START_MS + 3 * payout_flow.PATIENCE_MS)
    assert not going.done()
    assert debtor.books.pending > target.amount_msat
    await world.end_payment(target.payment_hash, paid=paid)
    await going
    assert debtor.books.refunded == (target.amount_msat if paid else ZERO)
    assert world.orders(target.payment_hash) == 1


async def test_a_host_that_died_with_its_call_asks_and_does_not_order_again(world: World) -> None:
    target = await world.foreign_invoice(900)
    debtor = Debtor(world)
    started = payout_flow.start(debtor.refunds, debtor.books.owed, target, FEES, None, debtor.now_ms)
    debtor.apply(started)  # the event is in the journal, and the call is on its way
    (intent,) = payout_flow.intents(ACTOR, debtor.refunds, FEES, ())
    await debtor.run(intent)  # its answer dies with the host
    debtor.crash()
    await debtor.go_on()
    assert debtor.books.refunded == target.amount_msat
    assert world.orders(target.payment_hash) == 1


async def test_an_order_that_comes_too_late_is_not_sent(world: World) -> None:
    target = await world.foreign_invoice(900)
    debtor = Debtor(world)
    debtor.apply(payout_flow.start(debtor.refunds, debtor.books.owed, target, FEES, None, debtor.now_ms))
    (intent,) = payout_flow.intents(ACTOR, debtor.refunds, FEES, ())
    assert isinstance(intent, SendPayout)
    late = replace(intent, send_before_ms=_START_MS - 1)
    assert isinstance(await debtor.run(late), Failed)
    assert world.orders(target.payment_hash) == 0


async def test_the_node_is_restarted_while_the_payment_is_looked_up(world: World) -> None:
    need(world, Fate.ANSWER_LOST)
    target = await world.foreign_invoice(900)
    world.next_payment(Fate.ANSWER_LOST)
    debtor = Debtor(world)
    debtor.apply(payout_flow.start(debtor.refunds, debtor.books.owed, target, FEES, None, debtor.now_ms))
    (intent,) = payout_flow.intents(ACTOR, debtor.refunds, FEES, ())
    ended = await debtor.run(intent)
    event = payout_flow.outcome(debtor.refunds, ended, debtor.now_ms)
    assert event is not None
    debtor.apply(event)
    await world.stop()
    going = asyncio.create_task(debtor.go_on())
    await debtor.until(_START_MS + 10_000)
    assert debtor.refunds.under_way is not None, "a node that is away says nothing"
    await world.start()
    await going
    assert debtor.books.refunded == target.amount_msat
    assert world.orders(target.payment_hash) == 1

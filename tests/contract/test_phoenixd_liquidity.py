"""Payments from which phoenixd takes its channels' price: what the client is credited, and what the wallet has left."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus
from satmeter.actors.ports import InvoiceOrder
from tests.helpers.payout_owners import OwnersInMemory
from tests.lightning.world import FUNDS_SATS, owned_of
from tests.lightning.worlds.phoenixd import PhoenixdWorld, phoenixd_world

ACTOR = "ses_0123456789abcdefghijklmnopqrstuv"


@pytest.fixture
async def world() -> AsyncIterator[PhoenixdWorld]:
    async with phoenixd_world(OwnersInMemory()) as made:
        yield made


def without_channel(world: PhoenixdWorld) -> None:
    world.books.balance_msat = world.books.capacity_msat = 0


async def paid(world: PhoenixdWorld, sats: int, amount_msat: int | None = None) -> Settlement:
    invoice = await world.lightning.create_invoice(InvoiceOrder(sats, "deposit", 600, ACTOR))
    await world.pay(invoice.payment_hash, amount_msat)
    settlement = await world.lightning.lookup(invoice.payment_hash)
    assert settlement is not None
    assert settlement in await world.lightning.settlements(1)
    return (await owned_of(world, [settlement]))[0]


async def test_the_first_payments_are_credited_in_full_though_a_channel_is_bought_with_them(
    world: PhoenixdWorld,
) -> None:
    without_channel(world)
    credited = [await paid(world, sats) for sats in (9_000, 10_000)]
    assert [each.amount_msat for each in credited] == [Msat(9_000_000), Msat(10_000_000)]
    assert await world.lightning.balance() == ZERO, "a fee credit can't be spent"
    assert world.books.fee_credit_msat == 19_000_000
    third = await paid(world, 12_000)
    # 1 % of two million and of the payment, the new channel's thousand, and the mining fee; less the credit.
    price_msat = (20_120 + 1_000 + 1_219) * 1_000
    assert third == Settlement(third.payment_hash, Msat(12_000_000), ACTOR, Msat(price_msat - 19_000_000))
    # All that was credited is in the wallet, or was the price.
    assert await world.lightning.balance() == Msat(31_000_000 - price_msat)
    assert (await paid(world, 500)).kept_msat == ZERO


async def test_a_client_that_paid_too_much_for_the_invoice_that_bought_room_is_credited_no_less_than_its_amount(
    world: PhoenixdWorld,
) -> None:
    world.books.capacity_msat = world.books.balance_msat
    assert (await paid(world, 30_000, 50_000_000)).amount_msat == Msat(30_000_000)
    assert (await paid(world, 30_000, 50_000_000)).amount_msat == Msat(50_000_000)


@pytest.mark.parametrize("amount_msat", [999_999, 2_000_001])
async def test_less_than_the_amount_and_more_than_its_double_never_arrive(
    world: PhoenixdWorld, amount_msat: int
) -> None:
    invoice = await world.lightning.create_invoice(InvoiceOrder(1_000, "deposit", 600, ACTOR))
    assert not world.node.receive(invoice.payment_hash, amount_msat)
    assert await world.lightning.lookup(invoice.payment_hash) is None


async def test_a_payment_that_is_late_never_arrives(world: PhoenixdWorld) -> None:
    invoice = await world.lightning.create_invoice(InvoiceOrder(1_000, "deposit", 600, ACTOR))
    await world.expire(invoice.payment_hash)
    assert not world.node.receive(invoice.payment_hash)
    assert await world.lightning.lookup(invoice.payment_hash) is None


async def test_without_a_channel_a_refund_is_refused_for_lack_of_funds(world: PhoenixdWorld) -> None:
    without_channel(world)
    await paid(world, 1_000)
    target = await world.foreign_invoice(500)
    report = await world.lightning.pay_out(target, ACTOR, Msat(6_000))
    assert report == PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.FUNDS)


async def test_what_a_channel_cost_is_no_payment_of_an_actor_s(world: PhoenixdWorld) -> None:
    world.books.capacity_msat = world.books.balance_msat
    await paid(world, FUNDS_SATS * 3)
    assert world.books.purchases
    assert await world.lightning.sent(100) == []


async def test_the_limited_password_makes_invoices_and_pays_nothing(world: PhoenixdWorld) -> None:
    limited = world.client(world.limited_password)
    try:
        assert await limited.trouble() == "limited_password"
        assert (await limited.create_invoice(InvoiceOrder(1, "deposit", 600, ACTOR))).amount_sats == 1
        target = await world.foreign_invoice(500)
        report = await limited.pay_out(target, ACTOR, Msat(6_000))
        assert report == PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)
        assert world.orders(target.payment_hash) == 0
    finally:
        await limited.close()
    assert await world.lightning.trouble() is None


async def test_a_payment_that_another_program_made_from_the_node_is_nobody_s(world: PhoenixdWorld) -> None:
    target = await world.foreign_invoice(500)
    await world.bare.pay_out(target, "", Msat(6_000))
    (listed,) = await world.lightning.sent(10)
    assert (listed.payment_hash, listed.actor_id) == (target.payment_hash, "")
    # Its invoice names no actor either.
    made = world.books.invoice(700, "another shop's", external_id="order-17")
    await world.pay(made.payment_hash)
    settlement = await world.lightning.lookup(made.payment_hash)
    assert settlement is not None
    assert settlement.actor_id is None

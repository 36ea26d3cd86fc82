"""Contract of every backend: payments that we order, once, and the node's word on them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import pytest

from satmeter.actors.domain.money import MSAT_PER_SAT, ZERO, Msat
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.ports import InvoiceOrder, PortError, TransientError
from tests.helpers.hosts import until
from tests.helpers.jobs import FEES
from tests.lightning.world import FUNDS_SATS, Fate, Tells, World, looked_up

ACTOR = "ses_0123456789abcdefghijklmnopqrstuv"
OTHER_ACTOR = "ses_vutsrqponmlkjihgfedcba9876543210"


async def pay_out(world: World, target: PayoutTarget, actor_id: str = ACTOR) -> PayoutReport | None:
    """Return the report on an order, None where the call ended without one."""
    try:
        return await world.lightning.pay_out(target, actor_id, FEES.reserve(target.amount_msat))
    except TransientError:
        return None


async def until_status(world: World, target: PayoutTarget, *statuses: PayoutStatus) -> PayoutReport:
    """Return the first report of a look-up with one of these statuses; answers that fail are asked for again."""
    found: list[PayoutReport] = []

    async def is_there() -> bool:
        with contextlib.suppress(TransientError):
            found.append(await world.lightning.payout(target, ACTOR))
            return found[-1].status in statuses
        return False

    await until(is_there)
    return found[-1]


def about(balance_msat: Msat, expected_msat: Msat) -> bool:
    """Return True if both are the same but for a part of a sat, which not every node tells."""
    return abs(balance_msat.value - expected_msat.value) < MSAT_PER_SAT


def need(world: World, fate: Fate) -> None:
    if fate not in world.fates:
        pytest.skip(f"{fate.name} can't be brought about at {world.name}")


async def test_an_invoice_is_paid_and_the_node_says_so_later_too(world: World) -> None:
    target = await world.foreign_invoice(250)
    assert (await world.lightning.payout(target, ACTOR)).status is PayoutStatus.ABSENT
    report = await pay_out(world, target)
    assert report is not None
    assert report.status is PayoutStatus.PAID
    again = await world.lightning.payout(target, ACTOR)
    assert again.status is PayoutStatus.PAID
    assert again.fee_msat == report.fee_msat
    assert world.orders(target.payment_hash) == 1


async def test_a_second_order_neither_pays_twice_nor_unpays(world: World) -> None:
    target = await world.foreign_invoice(250)
    await pay_out(world, target)
    balance_msat = await world.lightning.balance()
    second = await pay_out(world, target)
    assert second is None or second.status is not PayoutStatus.ABSENT
    assert (await world.lightning.payout(target, ACTOR)).status is PayoutStatus.PAID
    assert await world.lightning.balance() == balance_msat


async def test_orders_at_once_pay_once(world: World) -> None:
    target = await world.foreign_invoice(250)
    before_msat = await world.lightning.balance()
    await asyncio.gather(*(pay_out(world, target) for _ in range(5)))
    report = await until_status(world, target, PayoutStatus.PAID)
    assert about(before_msat - await world.lightning.balance(), Msat(250_000) + report.fee_msat)


async def test_an_unknown_payment_is_absent(world: World) -> None:
    target = await world.foreign_invoice(21)
    assert await world.lightning.payout(target, ACTOR) == PayoutReport(PayoutStatus.ABSENT)


async def test_a_payment_that_fails_has_failed_by_the_look_up(world: World) -> None:
    need(world, Fate.FAILED)
    target, before_msat = await world.foreign_invoice(250), await world.lightning.balance()
    world.next_payment(Fate.FAILED)
    report = await pay_out(world, target)
    assert report is None or report.status in (PayoutStatus.FAILED, PayoutStatus.PENDING)
    await until_status(world, target, PayoutStatus.FAILED, PayoutStatus.ABSENT)
    assert await world.lightning.balance() == before_msat


@pytest.mark.parametrize("paid", [True, False])
async def test_a_pending_payment_is_pending_until_the_node_says_how_it_ended(world: World, paid: bool) -> None:
    need(world, Fate.PENDING)
    target = await world.foreign_invoice(250)
    world.next_payment(Fate.PENDING)
    report = await pay_out(world, target)
    assert report is None or report.status is PayoutStatus.PENDING
    for _ in range(3):
        with contextlib.suppress(TransientError):
            assert (await world.lightning.payout(target, ACTOR)).status is PayoutStatus.PENDING
    assert target.payment_hash not in [each.payment_hash for each in await world.lightning.sent(10)]
    await world.end_payment(target.payment_hash, paid=paid)
    expected = PayoutStatus.PAID if paid else PayoutStatus.FAILED
    await until_status(world, target, expected)
    assert (await world.lightning.payout(target, ACTOR)).status is expected
    assert world.orders(target.payment_hash) == 1


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.SLOW_THEN_PAID])
async def test_a_lost_or_late_answer_is_not_a_failure_and_the_look_up_finds_it_paid(world: World, fate: Fate) -> None:
    need(world, fate)
    target = await world.foreign_invoice(250)
    world.next_payment(fate)
    report = await pay_out(world, target)
    assert report is None or report.status in (PayoutStatus.PENDING, PayoutStatus.PAID)
    await until_status(world, target, PayoutStatus.PAID)
    assert world.orders(target.payment_hash) == 1


async def test_a_late_failure_is_found_by_the_look_up(world: World) -> None:
    need(world, Fate.SLOW_THEN_FAILED)
    target = await world.foreign_invoice(250)
    world.next_payment(Fate.SLOW_THEN_FAILED)
    report = await pay_out(world, target)
    assert report is None or report.status is PayoutStatus.PENDING
    await until_status(world, target, PayoutStatus.FAILED, PayoutStatus.ABSENT)


async def test_an_order_that_the_node_never_read_is_absent_and_is_not_repeated(world: World) -> None:
    need(world, Fate.NOT_RECEIVED)
    target, before_msat = await world.foreign_invoice(250), await world.lightning.balance()
    world.next_payment(Fate.NOT_RECEIVED)
    assert await pay_out(world, target) is None
    await until_status(world, target, PayoutStatus.ABSENT)
    assert world.orders(target.payment_hash) == 0
    assert await world.lightning.balance() == before_msat


async def test_more_than_the_wallet_has_is_not_paid(world: World) -> None:
    target, before_msat = await world.foreign_invoice(FUNDS_SATS + 1_000), await world.lightning.balance()
    report = await pay_out(world, target)
    assert report is None or report.status is not PayoutStatus.PAID
    await until_status(world, target, PayoutStatus.FAILED, PayoutStatus.ABSENT)
    assert await world.lightning.balance() == before_msat


async def test_a_node_that_is_away_is_asked_again_and_ordered_once(world: World) -> None:
    target = await world.foreign_invoice(250)
    await world.stop()
    with pytest.raises(PortError):
        await world.lightning.payout(target, ACTOR)
    with pytest.raises(TransientError):
        await world.lightning.pay_out(target, ACTOR, Msat(2_000))
    await world.start()
    await until_status(world, target, PayoutStatus.ABSENT)
    assert world.orders(target.payment_hash) == 0


async def test_rubbish_says_nothing_about_a_payment(world: World) -> None:
    target = await world.foreign_invoice(250)
    assert await pay_out(world, target) is not None
    world.rubbish(on=True)
    with pytest.raises(PortError):
        await world.lightning.payout(target, ACTOR)
    world.rubbish(on=False)
    assert (await world.lightning.payout(target, ACTOR)).status is PayoutStatus.PAID


async def test_another_actor_s_payment_is_a_failure_of_ours(world: World) -> None:
    target = await world.foreign_invoice(250)
    first = await pay_out(world, target, OTHER_ACTOR)
    assert first is not None
    assert first.status is PayoutStatus.PAID
    balance_msat = await world.lightning.balance()
    second = await pay_out(world, target, ACTOR)
    assert second is None or second.status is not PayoutStatus.PAID
    assert (await world.lightning.payout(target, ACTOR)).status is PayoutStatus.FAILED
    assert (await world.lightning.payout(target, OTHER_ACTOR)).status is PayoutStatus.PAID
    assert await world.lightning.balance() == balance_msat


async def test_a_payment_credits_nothing(world: World) -> None:
    target = await world.foreign_invoice(250)
    await pay_out(world, target)
    assert await world.lightning.lookup(target.payment_hash) is None
    assert not await world.lightning.received(target.payment_hash)
    assert target.payment_hash not in [each.payment_hash for each in await world.lightning.settlements(100)]


async def test_what_went_out_is_listed_with_its_actor_and_missing_from_the_wallet(world: World) -> None:
    before_msat = await world.lightning.balance()
    targets = [await world.foreign_invoice(amount_sats) for amount_sats in (250, 350)]
    for target in targets:
        await pay_out(world, target)
    listed = await world.lightning.sent(100)
    assert [(each.payment_hash, each.amount_msat, each.actor_id) for each in listed] == [
        (target.payment_hash, target.amount_msat, ACTOR) for target in reversed(targets)
    ]
    assert len({each.row_id for each in listed}) == 2
    fees_msat = sum((each.fee_msat for each in listed), ZERO)
    assert about(before_msat - await world.lightning.balance(), Msat(600_000) + fees_msat)


async def test_payments_that_others_made_from_the_wallet_are_not_ours(world: World) -> None:
    """The wallet may serve other programs, too, unless the backend keeps a record for us."""
    target = await world.foreign_invoice(250)
    assert await world.lightning.sent(100) == []
    await pay_out(world, target, OTHER_ACTOR)
    assert [each.actor_id for each in await world.lightning.sent(100)] == [OTHER_ACTOR]


async def test_an_own_invoice_is_paid_and_settled_or_fails_for_certain(world: World) -> None:
    own = await world.lightning.create_invoice(InvoiceOrder(250, "deposit", 600, OTHER_ACTOR))
    read = read_invoice(own.payment_request)
    target = PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)
    before_msat = await world.lightning.balance()
    assert (await world.lightning.payout(target, ACTOR)).status is PayoutStatus.ABSENT, (
        "it may come in: it went not out"
    )
    await pay_out(world, target)
    if Tells.OWN_INVOICE in world.tells:
        before_msat -= (await until_status(world, target, PayoutStatus.PAID)).fee_msat
        settlement = Settlement(own.payment_hash, Msat(250_000), OTHER_ACTOR)
        assert await looked_up(world, own.payment_hash) == settlement
    else:
        await until_status(world, target, PayoutStatus.FAILED, PayoutStatus.ABSENT)
        assert await world.lightning.lookup(own.payment_hash) is None
    assert about(await world.lightning.balance(), before_msat)


async def test_the_node_s_books_outlast_its_restart(world: World) -> None:
    target = await world.foreign_invoice(250)
    await pay_out(world, target)
    invoice = await world.lightning.create_invoice(InvoiceOrder(9, "deposit", 600, OTHER_ACTOR))
    await world.pay(invoice.payment_hash)
    await world.stop()
    await world.start()
    await until_status(world, target, PayoutStatus.PAID)
    assert await world.lightning.lookup(invoice.payment_hash) is not None


async def test_an_invoice_that_cannot_be_read_is_not_paid(world: World) -> None:
    target = PayoutTarget("lnbc1nonsense", secrets.token_hex(32), Msat(1_000))
    report = await pay_out(world, target)
    assert report is None or report.status is PayoutStatus.FAILED
    assert (await world.lightning.payout(target, ACTOR)).status in (PayoutStatus.ABSENT, PayoutStatus.FAILED)

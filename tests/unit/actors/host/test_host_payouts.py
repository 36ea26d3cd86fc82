"""Payouts on a real host and a real store, against a node that times out, says nothing for certain, or dies."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, RefundState
from satmeter.actors.domain.session.messages import CloseSession, SessionView
from satmeter.actors.ports import TransientError
from tests.helpers.hosts import World, until
from tests.helpers.session_steps import GRANT, SES, opened, show

pytestmark = pytest.mark.usefixtures("placement")


@pytest.fixture
def world(redis: Redis) -> World:
    """Parts outside of the host."""
    return World(redis)


TARGET = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))


async def test_a_payout_that_timed_out_after_paying_is_found_paid_and_not_sent_again(world: World) -> None:
    world.lightning.payout_script = [TransientError("time-out")]
    world.lightning.pays_before_fault = True
    async with world.serving() as (_, router):
        await opened(router)
        view = await router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT))
        assert isinstance(view, SessionView)
        assert view.refund.state is RefundState.PARTLY_PAID and view.refund.paid_msat == TARGET.amount_msat
    assert len(world.lightning.payout_orders) == 1


async def test_a_payout_that_never_reached_the_node_fails_only_after_minutes_and_can_be_re_pointed(
    world: World,
) -> None:
    world.lightning.payout_script = [TransientError("time-out")]
    async with world.serving() as (_, router):
        await opened(router)
        closing = asyncio.create_task(router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT)))
        await until(lambda: _looked_up(world, 3))
        again = replace(TARGET, payment_hash="cd" * 32)
        with pytest.raises(RefusedError) as pending:
            await router.call(SES, CloseSession(again, Once("c2", "d", keyed=True), GRANT))
        assert pending.value.refusal.code is Code.REFUND_PENDING
        world.offset_ms += 301_000
        view = await closing
        assert isinstance(view, SessionView)
        assert view.refund.failed and view.refund.state is RefundState.OWED and view.refund.paid_msat == Msat(0)
        view = await router.call(SES, CloseSession(again, Once("c2", "d", keyed=True), GRANT))
        assert isinstance(view, SessionView) and view.refund.paid_msat == again.amount_msat
    assert [target for target, _ in world.lightning.payout_orders] == [TARGET, again]


async def _looked_up(world: World, times: int) -> bool:
    return world.lightning.calls.count("payout") >= times


async def test_a_payout_whose_host_died_is_looked_up_and_never_sent_again(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.lightning.gate.close()
        closing = asyncio.create_task(router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT)))
        await until(lambda: _sent(world))
    with pytest.raises(RefusedError):
        await closing
    world.lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.PAID, Msat(700))
    world.lightning.gate.open()
    async with world.serving() as (_, router):
        view = await router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT))
        assert isinstance(view, SessionView)
        assert view.refund.paid_msat == TARGET.amount_msat and view.spent_msat == Msat(700)
        await show(router)
    assert world.lightning.calls.count("pay_out") == 1


async def _sent(world: World) -> bool:
    return "pay_out" in world.lightning.calls


async def test_a_wallet_that_does_not_wait_is_answered_at_once_and_its_invoice_is_sent_once(world: World) -> None:
    """The answer comes once the payout is journaled, also to a repetition on the host that follows on a dead one."""
    command = CloseSession(TARGET, Once("w", "d", keyed=True), GRANT, waits=False)
    async with world.serving() as (_, router):
        await opened(router)
        world.lightning.gate.close()
        for _ in range(2):
            view = await router.call(SES, command)
            assert view.refund.state is RefundState.PENDING and not view.refund.failed
        await until(lambda: _sent(world))
    async with world.serving() as (_, router):
        assert (await router.call(SES, command)).refund.state is RefundState.PENDING
        world.lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.PAID)
        world.lightning.gate.open()

        async def paid() -> bool:
            return (await show(router)).refund.paid_msat == TARGET.amount_msat

        await until(paid)
        assert (await router.call(SES, command)).refund.paid_msat == TARGET.amount_msat
    assert len(world.lightning.payout_orders) == 1

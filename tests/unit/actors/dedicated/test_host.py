"""A dedicated host: its work that needs no process of an actor."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from satmeter.actors.dedicated.host import DedicatedHost
from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.errors import Code, Refusal, RefusedError, unavailable
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle, Settled, SettleOutcome
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.domain.session.messages import CloseSession, GetSession, OpenSession, SessionCreated
from satmeter.actors.host.handover import Handover, Peer
from satmeter.actors.host.replies import ReplyQueue
from satmeter.actors.messages import Answer, Call, NotOwner
from satmeter.actors.partitioning import Placement, partition_of
from satmeter.actors.ports import TransientError
from satmeter.actors.router.lane import Pending
from satmeter.actors.router.router import Router
from satmeter.scripts.benchmarks.local_link import LocalLink
from tests.helpers.hosts import World, until
from tests.helpers.session_steps import GRANT, SES, answered, ask, opened, show

TARGET = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))
PLAN = Placement(1, ("host-0",))


@pytest.fixture
def world(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> World:
    """With processes for sessions, after which their host looks often."""
    monkeypatch.setattr("satmeter.actors.dedicated.actor_process._ANSWERS_WITHIN_S", 0.1)
    monkeypatch.setattr("satmeter.actors.dedicated.host._LOOK_EVERY_S", 0.02)
    world = World(redis)
    world.dedicated = True
    return world


async def test_what_is_only_looked_at_and_a_payment_that_is_told_again_start_no_process(world: World) -> None:
    """A treasury that restarts reports the payments of all sessions again: at once, they would be a storm."""
    async with world.serving() as (_, router):
        created = await opened(router)
        before = await show(router)
    again = Settle(created.deposit_invoice.payment_hash, before.deposited_msat)
    async with world.serving() as (host, router):
        assert await show(router) == before
        assert await _settled(router, again) is SettleOutcome.REPLAYED
        assert host.live_actors == 0
        await answered(router, ask())
        assert host.live_actors == 1
        assert (await show(router)).spent_msat > Msat(0)


async def test_a_payment_that_is_news_has_a_process(world: World) -> None:
    async with world.serving() as (_, router):
        created = await router.call(SES, OpenSession(10_000, "client"))
        assert isinstance(created, SessionCreated)
    async with world.serving() as (host, router):
        settle = Settle(created.deposit_invoice.payment_hash, Msat.from_sats(10_000))
        assert await _settled(router, settle) is SettleOutcome.APPLIED
        assert host.live_actors == 1


async def test_a_session_that_was_left_with_a_hold_is_run_to_release_it(world: World) -> None:
    await _left_with_a_hold(world)
    async with world.serving() as (host, router):
        assert (await show(router)).held_msat == Msat(0)
        assert host.live_actors == 1


async def test_a_process_that_hangs_is_replaced_and_what_it_writes_when_it_wakes_is_refused(world: World) -> None:
    async with world.serving() as (host, router):
        handover = Handover("host-0", host, world.journal, _nobody)
        await opened(router)
        world.model.gate.close()
        asking = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
        epoch = host.partitions.epoch(partition_of(SES))
        running = world.launcher.running
        hung = running.pop(SES)  # So that ending it has no effect, as on a node that can't be reached.
        hung.hang()

        async def replaced() -> bool:
            handover.adopt(PLAN)  # As a coordinator tells it, again and again.
            return SES in running

        await until(replaced)
        await world.model.gate.wait_for_arrival()
        assert host.partitions.epoch(partition_of(SES)) > epoch
        # Both have the answer now, and would charge for it.
        world.model.gate.open()
        answer = await asking

        async def fenced() -> bool:
            return hung.host.live_actors == 0 and not hung.host.partitions.owned

        await until(fenced)
        assert (await show(router)).spent_msat == answer.cost.debit_msat
        assert await answered(router, ask(key="k")) == answer
        await hung.host.stop(patience_s=0)


async def test_an_actor_whose_process_was_ended_by_somebody_else_has_another_one(world: World) -> None:
    """By another host, for example: a process has the name of its actor, and there is one of a name."""
    world.model.gate.close()
    async with world.serving() as (host, router):
        handover = Handover("host-0", host, world.journal, _nobody)
        await opened(router)
        asking = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
        await world.launcher.end(SES)
        world.model.gate.open()

        async def done() -> bool:
            handover.adopt(PLAN)
            return asking.done()

        await until(done)
        assert (await asking).cost.debit_msat > Msat(0)
        assert (await show(router)).held_msat == Msat(0)


async def test_a_process_that_died_and_is_being_started_again_is_waited_for(world: World) -> None:
    """To start another one in its place would take as long from the beginning."""
    async with world.serving() as (host, router):
        await opened(router)
        epoch = host.partitions.epoch(partition_of(SES))
        process = world.launcher.running[SES]
        process.die()

        async def looked_for() -> bool:
            return process.looks >= 4

        await until(looked_for)
        process.come()
        await answered(router, ask())
        assert world.launcher.running[SES] is process
        assert host.partitions.epoch(partition_of(SES)) == epoch


async def test_a_process_that_can_not_be_started_is_tried_again_though_nobody_asks_for_it(world: World) -> None:
    await _left_with_a_hold(world)
    world.offset_ms += 60_000  # The time by which the store says that it is to be looked after.
    world.launch_failures = 2
    async with world.serving() as (host, _):
        handover = Handover("host-0", host, world.journal, _nobody)

        async def started() -> bool:
            handover.adopt(PLAN)
            return world.launch_failures == 0 and SES in world.launcher.running

        await until(started)


async def test_a_caller_of_a_process_that_does_not_come_up_is_told_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was stopped in the middle of its start comes late, or never."""
    async with world.serving() as (host, router):
        monkeypatch.setattr("satmeter.actors.dedicated.actor_process._PATIENCE_S", 0.05)
        monkeypatch.setattr("satmeter.actors.dedicated.actor_process._SOON_S", 0.01)
        world.launch_gate.close()
        with pytest.raises(RefusedError) as refused:
            await router.call(SES, OpenSession(10_000, "client"))
        assert refused.value.refusal.code is Code.UNAVAILABLE
        assert "nothing was charged" in refused.value.refusal.message
        # A further call, or the same one sent again, does not begin the time again.
        monkeypatch.setattr("satmeter.actors.dedicated.actor_process._PATIENCE_S", 20.0)
        assert isinstance(host, DedicatedHost)
        host._processes[SES]._begun_s -= 20.0
        async with asyncio.timeout(10):
            with pytest.raises(RefusedError):
                await router.call(SES, OpenSession(10_000, "client"))
        # What comes up late serves all the same.
        world.launch_gate.open()
        monkeypatch.setattr("satmeter.actors.dedicated.actor_process._SOON_S", 20.0)
        assert isinstance(await router.call(SES, OpenSession(10_000, "client")), SessionCreated)
        assert host.live_actors == 1


async def test_nobody_is_told_at_the_end_that_nothing_was_charged_for_what_was_under_way(world: World) -> None:
    world.model.gate.close()
    async with world.serving() as (host, router):
        await opened(router)
        asking = asyncio.create_task(answered(router, ask()))
        await world.model.gate.wait_for_arrival()
        await host.stop(patience_s=0)
        with pytest.raises(RefusedError) as refused:
            await asking
    assert "it is not known what was done" in refused.value.refusal.message


async def test_a_process_in_which_only_a_router_that_is_gone_waits_makes_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.lightning.payout_script = [TransientError("time-out")]
    async with world.serving(processes_max=1) as (host, router):
        gone = Router(world.journal.owners, {"host-0": LocalLink(host)}.__getitem__)
        await opened(gone)
        close = CloseSession(TARGET, Once("c", "d", keyed=True), GRANT)
        closing = asyncio.create_task(gone.call(SES, close))

        async def looked_up() -> bool:
            return world.lightning.calls.count("payout") >= 3

        await until(looked_up)
        await gone.close()
        with pytest.raises(RefusedError):
            await closing
        other = SES[:-1] + "w"

        async def has_room() -> bool:
            with contextlib.suppress(RefusedError):
                return isinstance(await router.call(other, OpenSession(10_000, "client")), SessionCreated)
            return False

        assert not await has_room(), "somebody may still wait"
        monkeypatch.setattr("satmeter.actors.dedicated.actor_process._HEARD_WITHIN_S", 0.0)
        await until(has_room)
        asked = world.lightning.calls.count("payout")

        async def has_failed() -> bool:
            # The payout is looked after again as soon as the other is idle, with its patience from then on.
            if world.lightning.calls.count("payout") > asked:
                world.offset_ms += 60_000
            with contextlib.suppress(RefusedError):
                return (await show(router)).refund.failed
            return False

        await until(has_failed)


async def test_a_host_that_stood_still_looks_what_it_still_owns_before_it_takes_calls(world: World) -> None:
    async with world.serving() as (host, router):
        assert isinstance(host, DedicatedHost)
        await opened(router)
        await show(router)
        await world.journal.claim([partition_of(SES)], "host-1")
        host._dispatcher.stall_detector._last_s -= 60
        await host.submit("queue", [Call(1, SES, GetSession(GRANT))])
        (answer,) = await host.collect("queue")
        assert answer.reply == NotOwner()


async def _left_with_a_hold(world: World) -> None:
    """A session whose host ended while its request was under way."""
    world.model.gate.close()
    async with world.serving() as (_, router):
        await opened(router)
        dying = asyncio.create_task(answered(router, ask(key="k")))
        await world.model.gate.wait_for_arrival()
    with pytest.raises(RefusedError):
        await dying
    world.model.gate.open()


def _nobody(host_id: str) -> Peer:
    raise AssertionError(f"{host_id} was asked for a partition")


async def _settled(router: Router, settle: Settle) -> SettleOutcome:
    settled = await router.call(SES, settle)
    assert isinstance(settled, Settled)
    return settled.outcome


@pytest.mark.parametrize(("resent", "told"), [(False, "nothing was charged"), (True, "not known")])
async def test_a_refusal_of_a_second_life_says_nothing_of_what_the_first_one_did(
    world: World, *, resent: bool, told: str
) -> None:
    """The process died with the answer, and its successor can't reach the store."""
    lane = Pending(Call(1, SES, ask(), resent=resent), 0.0)
    lane.put(Answer(1, unavailable("The store")))
    queue = ReplyQueue(0.0)
    async with world.serving() as (host, _):
        assert isinstance(host, DedicatedHost)
        await host._answer(lane, queue.reply_to(7))
    (answer,) = await queue.collect(1)
    assert isinstance(answer.reply, Refusal)
    assert told in answer.reply.message

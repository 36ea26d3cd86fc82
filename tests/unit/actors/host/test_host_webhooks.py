"""Webhooks through the host: told at least once under one id, whatever dies when, and never in the way of money."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.webhooks import HttpWebhooks
from satmeter.actors.domain.job.state import CreateJob, JobState, JobView
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.session.messages import OpenSession, SessionCreated
from satmeter.actors.domain.webhooks import Notify, Webhook, secret_of
from satmeter.actors.host.host import ActorHost
from satmeter.actors.partitioning import partition_of
from satmeter.actors.ports import TransientError
from satmeter.actors.router.router import Router
from satmeter.config.webhook_policy import WebhookTargets
from tests.helpers.hosts import World, job_in, until
from tests.helpers.jobs import JOB_ID
from tests.helpers.patience import PATIENCE_S
from tests.helpers.session_steps import SES, answered, ask, show
from tests.helpers.webhooks import FakeWebhooks, receiving, status

pytestmark = pytest.mark.usefixtures("placement")
HOOK = Webhook("https://example.org/hook")


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


def receiver_of(world: World) -> FakeWebhooks:
    return cast(FakeWebhooks, world.webhooks)


async def paid_job(world: World, router: Router, webhook: Webhook = HOOK) -> JobView:
    """A job whose work is paid, as soon as there is an invoice for it."""
    created = await router.call(JOB_ID, CreateJob("say hello", "client", webhook))
    assert isinstance(created, JobView)
    await pay(world, router, created.eval_invoice.payment_hash)
    waiting = await job_in(router, JOB_ID, JobState.AWAITING_WORK_PAYMENT)
    assert waiting.work_invoice is not None
    await pay(world, router, waiting.work_invoice.payment_hash)
    return waiting


async def pay(world: World, router: Router, payment_hash: str) -> None:
    world.lightning.pay(payment_hash)
    await router.call(JOB_ID, Settle(payment_hash, Msat(world.lightning.paid_msat[payment_hash])))


def kinds(sent: list[Notify]) -> list[str]:
    return [json.loads(notify.body)["type"] for notify in sent]


async def told(world: World, count: int) -> list[Notify]:
    """Waits for so many attempts."""

    async def arrived() -> bool:
        return len(receiver_of(world).sent) >= count

    await until(arrived)
    return receiver_of(world).sent


async def nothing_left_to_tell(world: World) -> None:
    """Waits until no notice is in any state."""

    async def empty() -> bool:
        stored = await world.journal.load(partition_of(JOB_ID), JOB_ID)
        return sum(b'"webhook_tried"' in event and b'"delivered"' in event for event in stored.events) >= 2

    await until(empty)


async def test_a_job_tells_each_of_its_states_once(world: World) -> None:
    async with world.serving() as (_, router):
        await paid_job(world, router)
        await job_in(router, JOB_ID, JobState.COMPLETE)
        await nothing_left_to_tell(world)
    assert kinds(receiver_of(world).sent) == ["job.awaiting_work_payment", "job.complete"]


async def test_a_host_that_dies_between_event_and_delivery_leaves_it_to_the_next_under_one_id(world: World) -> None:
    receiver = receiver_of(world)
    receiver.gate.close()
    async with world.serving() as (_, router):
        await paid_job(world, router)
        done = await job_in(router, JOB_ID, JobState.COMPLETE)
        await told(world, 2)
    # Nobody answered these. The next host has them due, and nobody needs to call the job.
    receiver.gate.open()
    async with world.serving() as (_, router):
        await nothing_left_to_tell(world)
        assert (await job_in(router, JOB_ID, JobState.COMPLETE)).ledger == done.ledger
    ids = [notify.webhook_id for notify in receiver.sent]
    assert len(ids) == 4
    assert len(set(ids)) == 2
    assert {notify.body for notify in receiver.sent[:2]} == {notify.body for notify in receiver.sent[2:]}
    # One evaluation, one answer, and what was paid is charged once.
    assert (len(world.model.evaluated), len(world.model.completed)) == (1, 1)


async def test_a_delivery_whose_end_was_not_written_is_made_again(world: World) -> None:
    async with world.serving() as (_, router):
        receiver = receiver_of(world)
        receiver.gate.close()
        await paid_job(world, router)
        await job_in(router, JOB_ID, JobState.COMPLETE)
        await told(world, 2)
        world.journal.lose_before_writing = 3
        receiver.gate.open()
        await nothing_left_to_tell(world)
    assert len({notify.webhook_id for notify in receiver_of(world).sent}) == 2


async def test_a_receiver_that_fails_is_called_again_when_its_time_has_come(world: World) -> None:
    receiver = receiver_of(world)
    receiver.script = [TransientError("down"), TransientError("down")]
    # A host of processes looks for the deadlines of those that have ended once a minute: here its process stays.
    async with world.serving(passivate_after_s=60 if world.dedicated else 0.05) as (host, router):
        await paid_job(world, router)
        await job_in(router, JOB_ID, JobState.COMPLETE)
        await told(world, 2)

        async def asleep() -> bool:
            return world.dedicated or host.live_actors == 0

        # What waits for its next attempt takes no memory.
        await until(asleep)
        assert len(receiver.sent) == 2
        world.offset_ms += 5_000
        await nothing_left_to_tell(world)
    assert len(receiver.sent) == 4
    assert len({notify.webhook_id for notify in receiver.sent}) == 2


async def test_a_receiver_that_never_answers_holds_up_neither_money_nor_the_end_of_its_host(world: World) -> None:
    receiver_of(world).gate.close()
    async with world.serving() as (host, router):
        await paid_job(world, router)
        assert (await job_in(router, JOB_ID, JobState.COMPLETE)).ledger is not None
        await told(world, 2)
        # Nor is it held up when its partitions move.
        assert not isinstance(host, ActorHost) or not host.occupied
        async with asyncio.timeout(PATIENCE_S):
            await host.stop(patience_s=60)


async def test_a_low_balance_is_told_once_and_costs_nothing(world: World) -> None:
    hook = Webhook("https://example.org/hook", Msat(95_000))
    async with world.serving() as (_, router):
        created = await router.call(SES, OpenSession(100, "client", hook))
        assert isinstance(created, SessionCreated)
        await router.call(SES, Settle(created.deposit_invoice.payment_hash, Msat(100_000)))
        for number in range(3):
            await answered(router, ask(number))
        (notify,) = await told(world, 1)
        view = await show(router)
    body: dict[str, Any] = json.loads(notify.body)
    assert body["type"] == "session.low_balance"
    assert body["data"] == {"sessionId": SES, "remainingMsat": 93_140, "lowBalanceSats": 95}
    assert view.spent_msat == Msat(3 * 6_860)


async def test_a_real_receiver_gets_what_a_host_sends(world: World) -> None:
    """From the event to the socket, the first answer a failure."""
    key = b"a key of a test"
    async with receiving(status("503 Later")) as receiver:
        world.webhooks = HttpWebhooks(WebhookTargets(("127.0.0.1",)), [key])
        async with world.serving() as (_, router):
            await paid_job(world, router, Webhook(f"http://127.0.0.1:{receiver.port}/hook"))
            await job_in(router, JOB_ID, JobState.COMPLETE)
            first, second = await receiver.next(), await receiver.next()
            receiver.answer = status("200 OK")
            world.offset_ms += 5_000
            await nothing_left_to_tell(world)
    assert first is not None and second is not None
    assert len(receiver.received) == 4
    ids = {got.headers["webhook-id"] for got in receiver.received}
    types = {cast(Any, got.verified(secret_of(key, JOB_ID)))["type"] for got in receiver.received}
    assert (len(ids), types) == (2, {"job.awaiting_work_payment", "job.complete"})

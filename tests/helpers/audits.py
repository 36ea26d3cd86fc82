"""Books to be audited."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from rich.console import Console

from satmeter.actors.adapters.redis.audit import AuditStore
from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.job.state import CreateJob, JobState, JobView
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget
from satmeter.actors.domain.session.messages import CloseSession, SessionView
from satmeter.actors.partitioning import partition_of
from satmeter.actors.ports import Lightning
from satmeter.scripts.audit.auditor import Audit, Report
from tests.helpers.hosts import World, job_in
from tests.helpers.jobs import JOB_ID
from tests.helpers.session_steps import GRANT, SES, answered, ask, opened

DEPOSIT_MSAT = 10_000_000
TARGET = PayoutTarget("lnbcrt50u1", "ab" * 32, Msat.from_sats(5_000))


async def used_world(redis: Redis, fee_msat: int = 1_500) -> World:
    """A session that was opened, used, closed and paid out in part, and a job that was done; nothing runs any more."""
    world = World(redis)
    world.lightning.payout_script = [PayoutReport(PayoutStatus.PAID, Msat(fee_msat))]
    async with world.serving() as (_, router):
        created = await opened(router)
        world.lightning.pay(created.deposit_invoice.payment_hash)
        for number in range(40):
            await answered(router, ask(number))
        view = await router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT))
        assert isinstance(view, SessionView) and view.refund.paid_msat == TARGET.amount_msat
        job = await router.call(JOB_ID, CreateJob("write a haiku", "client"))
        assert isinstance(job, JobView)
        await _pay(world, router, job.eval_invoice.payment_hash)
        work = (await job_in(router, JOB_ID, JobState.AWAITING_WORK_PAYMENT)).work_invoice
        assert work is not None
        await _pay(world, router, work.payment_hash)
        await job_in(router, JOB_ID, JobState.COMPLETE)
    world.lightning.wallet_msat = 100_000_000
    return world


async def _pay(world: World, router: Any, payment_hash: str) -> None:
    world.lightning.pay(payment_hash)
    await router.call(JOB_ID, Settle(payment_hash, Msat(world.lightning.paid_msat[payment_hash])))


def key_of(actor_id: str, name: str) -> str:
    """Return the key of an actor's journal (`j`) or snapshot (`s`)."""
    return f"satmeter:{{p{partition_of(actor_id):04d}}}:{name}:{actor_id}"


def raw(world: World) -> Any:
    """The store, for commands whose types the client's library does not tell."""
    return world.redis


async def audited(
    world: World, pause: Callable[[float], Awaitable[None]] | None = None, lightning: Lightning | None = None
) -> Report:
    """Return the findings of an audit that does not wait. `lightning`: its client for the world's node."""
    behaviours = world.host()._behaviours
    clock = iter(range(1_000_000)).__next__
    console = Console(file=io.StringIO())
    store = AuditStore(world.redis)
    audit = Audit(
        store,
        lightning or world.lightning,
        behaviours,
        console,
        pause=pause or world.pause,
        clock=clock,
        now_ms=world.now_ms,
    )
    return await audit.run()


async def finds(world: World, what: str) -> Report:
    """Return the findings of an audit, of which the first must be this."""
    report = await audited(world)
    assert report.difference_count == len(report.differences) > 0
    assert what in str(report.differences[0])
    return report

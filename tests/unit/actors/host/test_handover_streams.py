"""Readers of a stream, and watchers of a job, while its partition moves: told of it, and of nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.job.state import CreateJob, JobState, JobView, WatchJob
from satmeter.actors.domain.llm.relays import RelayBytes, RelayHead
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.partitioning import Placement, owned_by, partition_of
from tests.helpers.multi_host import Member
from tests.helpers.patience import PATIENCE_S
from tests.helpers.relays import relay
from tests.helpers.session_steps import SES, opened, show
from tests.unit.actors.host.test_handover import FIRST, OTHER, PAIR, fleet

# Of these two, OTHER owns it, as it does SES.
JOB = next(job for n in range(99) if partition_of(job := f"job_{n:032d}") in owned_by(OTHER, PAIR))


async def test_a_relayed_stream_that_is_cut_off_is_not_begun_again_at_the_new_host(redis: Redis) -> None:
    """The provider would be asked, and paid, a second time, for bytes that do not follow on the first ones."""
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        model = hosts.world.model
        replies = hosts.router.stream(SES, relay(stream=True, by=Grant(generation=1)))
        model.piece_gate.close()
        assert isinstance(await anext(replies), RelayHead)
        first = asyncio.create_task(anext(replies))
        await model.piece_gate.wait_for_arrival()
        model.piece_gate.open()
        model.piece_gate.close()
        assert await first == RelayBytes(b"the ")
        hosts.plan(*PAIR, patience_s=0)
        await hosts.moved()
        with pytest.raises(RefusedError) as refused:
            await anext(replies)
        assert refused.value.refusal.code is Code.UNAVAILABLE
        assert len(model.relayed) == 1
        shown = await show(hosts.router)
        assert shown.held_msat.value == shown.spent_msat.value == 0


async def test_who_watches_a_job_goes_on_watching_it_where_it_has_moved(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        created = await hosts.router.call(JOB, CreateJob("say hello", "client"))
        assert isinstance(created, JobView)
        hosts.world.model.gate.close()
        async with aclosing(hosts.router.stream(JOB, WatchJob())) as views, asyncio.timeout(PATIENCE_S):
            assert await anext(views) == created
            hosts.plan(*PAIR)
            await hosts.moved()
            assert hosts.holds(OTHER, JOB)
            payment_hash = created.eval_invoice.payment_hash
            hosts.world.lightning.pay(payment_hash)
            await hosts.router.call(JOB, Settle(payment_hash, Msat(10_000)))
            # The new host may show it before and after the payment.
            async for view in views:
                assert isinstance(view, JobView)
                if view.state is JobState.EVALUATING:
                    break
        hosts.world.model.gate.open()


async def test_what_a_former_plan_gave_to_a_host_is_not_taken_once_it_knows_a_newer_one(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        asked, goes_on = asyncio.Event(), asyncio.Event()
        give, claim, claimers = Member.hand_over, hosts.world.journal.claim, list[str]()

        async def noted(partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
            claimers.append(host_id)
            return await claim(partitions, host_id)

        async def given_late(member: Member, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
            released = await give(member, placement, partitions)
            asked.set()
            await goes_on.wait()
            return released

        monkeypatch.setattr(Member, "hand_over", given_late)
        monkeypatch.setattr(hosts.world.journal, "claim", noted)
        hosts.plan(*PAIR, patience_s=0)
        await asked.wait()
        # FIRST is to have all again, before OTHER knows that FIRST has let go.
        hosts.plan(FIRST)
        goes_on.set()
        await hosts.moved()
        await asyncio.wait_for(hosts.members[OTHER].handover._settling, 5)  # type: ignore[arg-type]
        assert OTHER not in claimers
        assert not hosts.members[OTHER].host.partitions.owned

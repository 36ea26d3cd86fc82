"""Faults that the simulator found in hosts and routers, each as a test of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.errors import RefusedError, broken
from satmeter.actors.domain.session.messages import GetSession, SessionView
from satmeter.actors.messages import Call, NotOwner
from satmeter.actors.partitioning import PARTITIONS, owned_by, partition_of
from satmeter.actors.ports import Append, Stored
from satmeter.actors.router.router import Router
from satmeter.scripts.benchmarks.local_link import LocalLink
from tests.helpers.hosts import LossyJournal, World, until
from tests.helpers.multi_host import Fleet
from tests.helpers.session_steps import GRANT, SES, answered, ask, opened

PAIR = ("host-0", "host-1")


class SlowJournal(LossyJournal):
    """A store in which a read, or a look at who owns what, takes as long as the test wants."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.loads = asyncio.Event()
        self.loads.set()
        self.looks = asyncio.Event()
        self.looks.set()
        self.waiting = 0

    async def load(self, partition: int, actor_id: str) -> Stored:
        stored = await super().load(partition, actor_id)
        await self._held_up(self.loads)
        return stored

    async def owners(self, partitions: Sequence[int]) -> Mapping[int, str]:
        owners = await super().owners(partitions)
        await self._held_up(self.looks)
        return owners

    async def _held_up(self, event: asyncio.Event) -> None:
        self.waiting += 1
        await event.wait()
        self.waiting -= 1


@pytest.fixture
def world(redis: Redis) -> World:
    world = World(redis)
    world.journal = SlowJournal(redis)
    return world


def journal_of(world: World) -> SlowJournal:
    assert isinstance(world.journal, SlowJournal)
    return world.journal


async def test_an_actor_that_was_dropped_while_it_was_read_leaves_its_successor_alone(world: World) -> None:
    journal, host = journal_of(world), world.host(passivate_after_s=60.0)
    await host.start(range(PARTITIONS))
    router = Router(journal.owners, {"host-0": LocalLink(host)}.__getitem__)
    await opened(router)
    partition = partition_of(SES)
    host.partitions.lose(partition)
    await host.take([partition])
    journal.loads.clear()
    await host.submit("queue", [Call(1, SES, GetSession(GRANT))])
    await until(lambda: _waits(journal))
    host.partitions.lose(partition)
    await host.take([partition])
    await host.submit("queue", [Call(2, SES, GetSession(GRANT))])
    await until(lambda: _waits(journal, 2))
    journal.loads.set()
    answers = await host.collect("queue")
    while len(answers) < 2:
        answers += await host.collect("queue")
    assert answers[0].reply == NotOwner()
    assert isinstance(answers[1].reply, SessionView)
    assert host.live_actors == 1 and partition in host.partitions
    await router.close()
    await host.stop(patience_s=0)


async def test_a_batch_that_comes_twice_is_answered_once(world: World) -> None:
    host = world.host()
    await host.start(range(PARTITIONS))
    batch = [Call(1, SES, GetSession(GRANT))]
    await host.submit("queue", batch)
    await host.submit("queue", batch)
    assert len(await host.collect("queue")) == 1
    await host.submit("queue", [Call(2, SES, GetSession(GRANT))])
    assert [answer.call_id for answer in await host.collect("queue")] == [2]
    await host.stop(patience_s=0)


async def test_a_plan_that_changes_while_owners_are_looked_up_does_not_make_a_host_ask_for_ever(world: World) -> None:
    fleet, journal = Fleet(world), journal_of(world)
    await fleet.start(*PAIR)
    fleet.plan("host-0")
    await fleet.moved()
    journal.looks.clear()
    fleet.plan("host-1")
    await until(lambda: _waits(journal))
    fleet.plan(*PAIR)
    journal.looks.set()
    wanted = set(owned_by("host-1", PAIR))

    async def settled() -> bool:
        settling = fleet.members["host-1"].handover._settling
        return set(fleet.members["host-1"].host.partitions.owned) == wanted and bool(settling and settling.done())

    await until(settled)
    await fleet.close()


async def _waits(journal: SlowJournal, count: int = 1) -> bool:
    return journal.waiting >= count


async def test_work_that_ends_in_a_broken_actor_is_not_said_to_have_cost_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model has answered, and a defect of ours keeps the debit from being written."""

    async def defect(append: Append) -> None:
        raise ValueError("a defect")

    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        asking = asyncio.create_task(answered(router, ask()))
        await world.model.gate.wait_for_arrival()
        monkeypatch.setattr(world.journal, "append", defect)
        world.model.gate.open()
        with pytest.raises(RefusedError) as refused:
            await asking
    assert refused.value.refusal == broken(begun=True)

"""The router while partitions move and hosts go: a call that waits at a dead host goes on to its successor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.job.state import GetJob
from satmeter.actors.host_link import LinkError
from satmeter.actors.messages import NotOwner
from satmeter.actors.partitioning import PARTITIONS, partition_of
from satmeter.actors.ports import TransientError
from satmeter.actors.router.router import Router
from tests.helpers.hosts import until
from tests.helpers.jobs import VIEW
from tests.helpers.patience import PATIENCE_S
from tests.unit.actors.router.test_router import FakeHost

JOB = "job_1"


class Pair:
    """Two hosts, a router to both, and the store's word on who owns what."""

    def __init__(self) -> None:
        self.hosts = {"host-0": FakeHost(), "host-1": FakeHost()}
        self.owners: dict[int, str] = dict.fromkeys(range(PARTITIONS), "host-0")
        self.fault: Exception | None = None
        self.router = Router(self._read, self.hosts.__getitem__)

    async def _read(self, partitions: Sequence[int]) -> Mapping[int, str]:
        if self.fault is not None:
            raise self.fault
        return {partition: self.owners[partition] for partition in partitions if partition in self.owners}

    def move(self, host_id: str) -> None:
        """Another host has taken everything over."""
        self.owners = dict.fromkeys(range(PARTITIONS), host_id)


async def test_who_waits_at_a_dead_host_is_sent_on_to_the_one_that_took_over() -> None:
    pair = Pair()
    asks = [asyncio.create_task(pair.router.call(f"job_{number}", GetJob())) for number in range(5)]
    await pair.hosts["host-0"].calls(5)
    pair.hosts["host-0"].die()
    pair.move("host-1")
    calls = await pair.hosts["host-1"].calls(5)
    assert all(call.resent for call in calls), "the dead one may have carried them out"
    for call in calls:
        pair.hosts["host-1"].answer(call.call_id, VIEW)
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*asks) == [VIEW] * 5
    await pair.router.close()


async def test_only_those_are_sent_on_whose_partition_has_moved() -> None:
    pair = Pair()
    stays = next(f"job_{n}" for n in range(2, 100) if partition_of(f"job_{n}") != partition_of(JOB))
    asks = [asyncio.create_task(pair.router.call(name, GetJob())) for name in (JOB, stays)]
    await pair.hosts["host-0"].calls(2)
    pair.hosts["host-0"].die()
    pair.owners[partition_of(JOB)] = "host-1"
    (call,) = await pair.hosts["host-1"].calls(1)
    assert call.actor_id == JOB
    pair.hosts["host-1"].answer(call.call_id, VIEW)
    assert await asks[0] == VIEW
    pair.hosts["host-0"].revive()
    again = (await pair.hosts["host-0"].calls(3))[-1]
    assert again.actor_id == stays and again.resent
    pair.hosts["host-0"].answer(again.call_id, VIEW)
    assert await asks[1] == VIEW
    await pair.router.close()


async def test_the_way_to_a_host_that_is_gone_ends_itself_and_begins_again_when_it_is_needed() -> None:
    pair = Pair()
    ask = asyncio.create_task(pair.router.call(JOB, GetJob()))
    (call,) = await pair.hosts["host-0"].calls(1)
    pair.hosts["host-0"].answer(call.call_id, VIEW)
    await ask
    lane = pair.router._lanes.to_host("host-0")
    pair.move("host-1")
    pair.hosts["host-0"].die()

    async def ended() -> bool:
        return lane._traffic is None

    await until(ended)
    pair.hosts["host-0"].revive()
    pair.move("host-0")
    again = asyncio.create_task(pair.router.call(JOB, GetJob()))
    (elsewhere,) = await pair.hosts["host-1"].calls(1)
    pair.hosts["host-1"].answer(elsewhere.call_id, NotOwner())
    _, second = await pair.hosts["host-0"].calls(2)
    pair.hosts["host-0"].answer(second.call_id, VIEW)
    assert await again == VIEW
    await pair.router.close()


async def test_the_way_to_a_dead_host_that_still_owns_something_is_kept_up() -> None:
    pair = Pair()
    ask = asyncio.create_task(pair.router.call(JOB, GetJob()))
    (call,) = await pair.hosts["host-0"].calls(1)
    pair.hosts["host-0"].die()
    pair.fault = TransientError("the store is away too")
    await asyncio.wait({ask}, timeout=0.1)
    pair.fault = None
    pair.hosts["host-0"].revive()
    _, again = await pair.hosts["host-0"].calls(2)
    assert again.call_id == call.call_id
    pair.hosts["host-0"].answer(again.call_id, VIEW)
    assert await ask == VIEW
    await pair.router.close()


async def test_the_check_asks_all_hosts_and_is_content_when_they_answer() -> None:
    pair = Pair()
    pair.owners[0] = "host-1"
    await pair.router.check()
    assert all(host.batches for host in pair.hosts.values())
    await pair.router.close()


async def test_the_check_fails_when_a_partition_has_no_owner() -> None:
    pair = Pair()
    del pair.owners[17]
    with pytest.raises(RefusedError) as refused:
        await pair.router.check()
    assert refused.value.refusal.code is Code.UNAVAILABLE
    assert not any(host.batches for host in pair.hosts.values())
    await pair.router.close()


async def test_the_check_fails_when_a_host_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.router.router.PATIENCE_S", 0.1)
    monkeypatch.setattr("satmeter.actors.router.lane.PATIENCE_S", 0.1)
    pair = Pair()
    pair.owners[0] = "host-1"
    pair.hosts["host-1"].die()
    with pytest.raises((RefusedError, TimeoutError)):
        await pair.router.check()
    await pair.router.close()


async def test_an_actor_without_an_owner_is_waited_for_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    owners, pair.owners = pair.owners, {}
    ask = asyncio.create_task(pair.router.call(JOB, GetJob()))
    await asyncio.wait({ask}, timeout=0.06)
    assert not ask.done()
    pair.owners = owners
    (call,) = await pair.hosts["host-0"].calls(1)
    pair.hosts["host-0"].answer(call.call_id, VIEW)
    assert await ask == VIEW
    await pair.router.close()

    monkeypatch.setattr("satmeter.actors.router.router.PATIENCE_S", 0.05)
    monkeypatch.setattr("satmeter.actors.router.lane.PATIENCE_S", 0.05)
    lost = Pair()
    lost.owners = {}
    with pytest.raises(RefusedError) as refused:
        await lost.router.call(JOB, GetJob())
    assert refused.value.refusal.retry_after_s
    await lost.router.close()


async def test_a_host_that_can_not_even_be_found_is_like_a_dead_one() -> None:
    class Nowhere(FakeHost):
        async def submit(self, queue_id: str, calls: Sequence[object]) -> None:
            raise LinkError("there is no such host")

    pair = Pair()
    pair.hosts["host-0"] = Nowhere()
    ask = asyncio.create_task(pair.router.call(JOB, GetJob()))
    await asyncio.wait({ask}, timeout=0.05)
    pair.move("host-1")
    (call,) = await pair.hosts["host-1"].calls(1)
    pair.hosts["host-1"].answer(call.call_id, VIEW)
    assert await ask == VIEW
    await pair.router.close()

"""Places of partitions, as a router knows them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence

import pytest

from satmeter.actors.partitioning import PARTITIONS, partition_of
from satmeter.actors.ports import TransientError
from satmeter.actors.router.routing_table import RoutingTable
from tests.helpers.fakes import Gate

JOB = "job_1"


class Owners:
    """The store's word, which a test holds up, changes, and breaks."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.reads = 0
        self.fault: Exception | None = None
        self.owners: dict[int, str] = dict.fromkeys(range(PARTITIONS), "host-0")

    async def read(self, partitions: Sequence[int]) -> Mapping[int, str]:
        self.reads += 1
        await self.gate.pass_through()
        if self.fault is not None:
            raise self.fault
        return {partition: self.owners[partition] for partition in partitions if partition in self.owners}


async def test_before_the_first_look_nothing_is_known() -> None:
    table = RoutingTable(Owners().read)
    assert table.host_of(JOB) is None and not table.complete and table.hosts == frozenset()


async def test_a_look_tells_who_owns_what_and_what_nobody_does() -> None:
    owners = Owners()
    table = RoutingTable(owners.read)
    owners.owners[0] = "host-1"
    await table.look()
    assert table.host_of(JOB) == "host-0"
    assert table.complete and table.hosts == {"host-0", "host-1"}
    del owners.owners[partition_of(JOB)]
    await table.look()
    assert table.host_of(JOB) is None and not table.complete


async def test_those_who_ask_at_once_share_a_look_and_the_next_one_makes_another() -> None:
    owners = Owners()
    owners.gate.close()
    table = RoutingTable(owners.read)
    looks = [asyncio.create_task(table.look()) for _ in range(50)]
    await owners.gate.wait_for_arrival()
    owners.gate.open()
    await asyncio.gather(*looks)
    assert owners.reads == 1
    await table.look()
    assert owners.reads == 2


async def test_a_caller_that_gives_up_does_not_end_the_look_of_the_others() -> None:
    owners = Owners()
    owners.gate.close()
    table = RoutingTable(owners.read)
    first = asyncio.create_task(table.look())
    await owners.gate.wait_for_arrival()
    second = asyncio.create_task(table.look())
    await asyncio.wait({second}, timeout=0)
    first.cancel()
    await asyncio.wait({first})
    owners.gate.open()
    await second
    assert owners.reads == 1 and table.complete


async def test_a_look_that_fails_is_told_to_all_and_what_was_known_stays() -> None:
    owners = Owners()
    table = RoutingTable(owners.read)
    await table.look()
    owners.fault = TransientError("away")
    told = await asyncio.gather(table.look(), table.look(), return_exceptions=True)
    assert [type(outcome) for outcome in told] == [TransientError, TransientError]
    assert table.complete
    owners.fault = None
    await table.look()


async def test_a_look_of_which_everybody_has_lost_interest_ends_in_peace() -> None:
    owners = Owners()
    owners.gate.close()
    table = RoutingTable(owners.read)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await table.look()
    owners.fault = TransientError("away")
    owners.gate.open()
    with pytest.raises(TransientError):
        await table.look()


async def test_a_look_that_fails_when_nobody_waits_any_more_is_no_defect() -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    owners = Owners()
    owners.gate.close()
    owners.fault = TransientError("away")
    table = RoutingTable(owners.read)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await table.look()
    owners.gate.open()
    while table._looking is not None:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert told == []

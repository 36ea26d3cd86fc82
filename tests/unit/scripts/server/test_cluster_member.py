"""A server as a member of its cluster: whom it refuses to join, and what it does about the actors when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from tests.helpers.hosts import until
from tests.helpers.membership import membership, server, silence
from tests.helpers.patience import PATIENCE_S
from tests.helpers.process_managers import PlayedProcessManager

if TYPE_CHECKING:
    from satmeter.actors.placement.membership import Server

ONE, TWO = server("one"), server("two", "node-b")


class EndingProcessManager(PlayedProcessManager):
    """A process manager that notes what a server does at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.drained: list[Sequence[str]] = []
        self.all_ended: list[Sequence[str]] = []

    async def drain(self, host_ids: Sequence[str], patience_s: float) -> None:
        self.drained.append(sorted(host_ids))

    async def end_all(self, host_ids: Sequence[str]) -> None:
        self.all_ended.append(sorted(host_ids))
        self.hosts.clear()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module under test, which names Ray's process manager, and needs nothing of it."""
    stand_in: Any = ModuleType("satmeter.actors.cluster")
    stand_in.RayProcessManager = EndingProcessManager
    stand_in.node_is_gone = lambda: False
    monkeypatch.setitem(sys.modules, "satmeter.actors.cluster", stand_in)
    monkeypatch.delitem(sys.modules, "satmeter.scripts.server.cluster_member", raising=False)
    module = importlib.import_module("satmeter.scripts.server.cluster_member")
    monkeypatch.delitem(sys.modules, "satmeter.scripts.server.cluster_member")
    return module


def _never() -> None:
    raise AssertionError("the node is there")


def _say_nothing(_line: str) -> None:
    """In these tests nothing is slow to come."""


@asynccontextmanager
async def joined(
    module: ModuleType, redis: Redis, own: Server, processes: EndingProcessManager, *, alone: bool
) -> AsyncIterator[Any]:
    """A server that takes part."""
    member = module.ClusterMember(own, membership(redis), processes, "host-", _never, _say_nothing)
    await member.enter(alone=alone)
    try:
        yield member
    finally:
        await member.leave(alone=alone)


async def test_alone_it_returns_when_all_is_served_and_drains_at_the_end(module: ModuleType, redis: Redis) -> None:
    processes = EndingProcessManager()
    async with joined(module, redis, ONE, processes, alone=True):
        assert sum(host.owned for host in processes.hosts.values()) == 1_024
    assert processes.drained == [["host-0", "host-1"]]


async def test_a_server_that_never_served_waits_for_no_host_at_its_end(module: ModuleType, redis: Redis) -> None:
    processes = EndingProcessManager()
    member = module.ClusterMember(ONE, membership(redis), processes, "host-", _never, _say_nothing)
    await member.enter(alone=True)
    await member.leave(alone=True, drain=False)
    assert processes.drained == []
    assert processes.all_ended == [], "they end with the cluster"
    assert (await membership(redis).view()).servers == []


async def test_while_hosts_do_not_come_whoever_waits_is_told_what_for(module: ModuleType, redis: Redis) -> None:
    processes, told = EndingProcessManager(), asyncio.Queue[str]()
    processes.refuses = True
    slow = module.ClusterMember(ONE, membership(redis), processes, "host-", _never, told.put_nowait, tell_every_s=0.01)
    entering = asyncio.create_task(slow.enter(alone=True))
    async with asyncio.timeout(PATIENCE_S):
        while "0 of 2 hosts answer, and serve 0 of 1,024 partitions" not in await told.get():
            pass
        processes.refuses = False
        await entering
    await slow.leave(alone=True)


async def test_a_server_with_another_key_is_refused_and_told_whose_key_differs(
    module: ModuleType, redis: Redis
) -> None:
    await membership(redis).beat(ONE)
    other = module.ClusterMember(
        replace(TWO, key_digest="other"), membership(redis), EndingProcessManager(), "host-", _never, _say_nothing
    )
    with pytest.raises(module.KeyMismatchError, match=r"(?s)one:8402.*MACAROON_ROOT_KEY.*same key on all"):
        await other.enter(alone=False)
    assert [found.server_id for found in (await membership(redis).view()).servers] == ["one"]


@pytest.mark.parametrize(
    ("there", "joins", "taken"),
    [
        # Each step of a change of the root key: the new one is believed, then used, then the old one is forgotten.
        (("old", ""), ("old", "new"), True),
        (("old", "new"), ("new", "old"), True),
        (("new", "old"), ("new", ""), True),
        (("old", ""), ("new", "old"), False),
        (("new", ""), ("old", "new"), False),
        (("old", "new"), ("new", ""), False),
    ],
)
async def test_servers_join_if_each_takes_the_credentials_that_the_other_makes(
    module: ModuleType, redis: Redis, there: tuple[str, str], joins: tuple[str, str], *, taken: bool
) -> None:
    one = replace(ONE, key_digest=there[0], previous_key_digest=there[1])
    two = replace(TWO, key_digest=joins[0], previous_key_digest=joins[1])
    await membership(redis).beat(one)
    with contextlib.nullcontext() if taken else pytest.raises(module.KeyMismatchError, match="one would not take"):
        async with joined(module, redis, two, EndingProcessManager(), alone=False):
            pass


async def test_the_key_of_a_server_that_was_killed_long_ago_refuses_nobody(module: ModuleType, redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await silence(redis, "one", 70)
    async with joined(module, redis, replace(TWO, key_digest="other"), EndingProcessManager(), alone=False):
        pass


async def test_with_others_it_leaves_when_its_hosts_have_moved_and_ends_nothing(
    module: ModuleType, redis: Redis
) -> None:
    processes = EndingProcessManager()
    async with (
        joined(module, redis, TWO, processes, alone=False),
        joined(module, redis, ONE, processes, alone=False) as leaving,
    ):
        await _until_hosts_live_on(processes, {"node-a", "node-b"})
        await leaving.give_away()
        assert {host.node_id for host in processes.hosts.values()} == {"node-b"}
        assert processes.all_ended == []
    assert len(processes.all_ended) == 1, "by the last one"


async def test_the_last_one_ends_all_actors(module: ModuleType, redis: Redis) -> None:
    processes = EndingProcessManager()
    async with joined(module, redis, ONE, processes, alone=False) as last:
        await _until_hosts_live_on(processes, {"node-a"})
        async with asyncio.timeout(PATIENCE_S):
            await last.give_away()
    assert processes.drained == processes.all_ended == [["host-0", "host-1"]]


async def test_a_server_that_was_killed_does_not_make_the_last_one_wait_or_leave_actors(
    module: ModuleType, redis: Redis
) -> None:
    processes = EndingProcessManager()
    await membership(redis).beat(TWO)
    await silence(redis, "two", 20)
    await redis.delete("satmeter:{cluster}:ray-a:lead")
    async with joined(module, redis, ONE, processes, alone=False) as last:
        await _until_hosts_live_on(processes, {"node-a"})
        async with asyncio.timeout(PATIENCE_S):
            await last.give_away()
    assert processes.all_ended != []


async def test_when_all_leave_at_once_nobody_waits_for_the_others(module: ModuleType, redis: Redis) -> None:
    processes = EndingProcessManager()
    await membership(redis).beat(replace(TWO, leaving=True))
    await redis.delete("satmeter:{cluster}:ray-a:lead")
    async with joined(module, redis, ONE, processes, alone=False) as last:
        await _until_hosts_live_on(processes, {"node-a"})
        async with asyncio.timeout(PATIENCE_S):
            await last.give_away()
    assert processes.all_ended != []


async def _until_hosts_live_on(processes: EndingProcessManager, nodes: set[str]) -> None:
    async def live() -> bool:
        return nodes.issubset({host.node_id for host in processes.hosts.values()})

    await until(live)

"""A server's place in its cluster: whom it refuses to join, and what it does about the actors when it goes."""

from __future__ import annotations

import asyncio
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
from tests.helpers.membership import roster, server, silence
from tests.helpers.patience import PATIENCE_S
from tests.helpers.process_managers import PlayedCrew

if TYPE_CHECKING:
    from satmeter.actors.placement.membership import Server

ONE, TWO = server("one"), server("two", "node-b")


class EndingCrew(PlayedCrew):
    """A crew that notes what a server does at its end."""

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
def place(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module under test, which names Ray's crew, and needs nothing of it."""
    stand_in: Any = ModuleType("satmeter.actors.cluster")
    stand_in.RayCrew = EndingCrew
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
async def placed(place: ModuleType, redis: Redis, own: Server, crew: EndingCrew, *, alone: bool) -> AsyncIterator[Any]:
    """A server that takes part."""
    taken = place.Place(own, roster(redis), crew, "host-", _never, _say_nothing)
    await taken.enter(alone=alone)
    try:
        yield taken
    finally:
        await taken.leave(alone=alone)


async def test_alone_it_returns_when_all_is_served_and_drains_at_the_end(place: ModuleType, redis: Redis) -> None:
    crew = EndingCrew()
    async with placed(place, redis, ONE, crew, alone=True):
        assert sum(host.owned for host in crew.hosts.values()) == 1_024
    assert crew.drained == [["host-0", "host-1"]]


async def test_a_server_that_never_served_waits_for_no_host_at_its_end(place: ModuleType, redis: Redis) -> None:
    crew = EndingCrew()
    taken = place.Place(ONE, roster(redis), crew, "host-", _never, _say_nothing)
    await taken.enter(alone=True)
    await taken.leave(alone=True, drain=False)
    assert crew.drained == []
    assert crew.all_ended == [], "they end with the cluster"
    assert (await roster(redis).view()).servers == []


async def test_while_hosts_do_not_come_whoever_waits_is_told_what_for(place: ModuleType, redis: Redis) -> None:
    crew, told = EndingCrew(), asyncio.Queue[str]()
    crew.refuses = True
    slow = place.Place(ONE, roster(redis), crew, "host-", _never, told.put_nowait, tell_every_s=0.01)
    entering = asyncio.create_task(slow.enter(alone=True))
    async with asyncio.timeout(PATIENCE_S):
        while "0 of 2 hosts answer, and serve 0 of 1,024 partitions" not in await told.get():
            pass
        crew.refuses = False
        await entering
    await slow.leave(alone=True)


async def test_a_server_with_another_key_is_refused_and_told_whose_key_differs(place: ModuleType, redis: Redis) -> None:
    await roster(redis).beat(ONE)
    other = place.Place(replace(TWO, key_digest="other"), roster(redis), EndingCrew(), "host-", _never, _say_nothing)
    with pytest.raises(place.KeyMismatchError, match=r"(?s)one:8402.*MACAROON_ROOT_KEY.*same key on all"):
        await other.enter(alone=False)
    assert [found.server_id for found in (await roster(redis).view()).servers] == ["one"]


async def test_the_key_of_a_server_that_was_killed_long_ago_refuses_nobody(place: ModuleType, redis: Redis) -> None:
    await roster(redis).beat(ONE)
    await silence(redis, "one", 70)
    async with placed(place, redis, replace(TWO, key_digest="other"), EndingCrew(), alone=False):
        pass


async def test_with_others_it_leaves_when_its_hosts_have_moved_and_ends_nothing(
    place: ModuleType, redis: Redis
) -> None:
    crew = EndingCrew()
    async with (
        placed(place, redis, TWO, crew, alone=False),
        placed(place, redis, ONE, crew, alone=False) as leaving,
    ):
        await _until_hosts_live_on(crew, {"node-a", "node-b"})
        await leaving.give_away()
        assert {host.node_id for host in crew.hosts.values()} == {"node-b"}
        assert crew.all_ended == []
    assert len(crew.all_ended) == 1, "by the last one"


async def test_the_last_one_ends_all_actors(place: ModuleType, redis: Redis) -> None:
    crew = EndingCrew()
    async with placed(place, redis, ONE, crew, alone=False) as last:
        await _until_hosts_live_on(crew, {"node-a"})
        async with asyncio.timeout(PATIENCE_S):
            await last.give_away()
    assert crew.drained == crew.all_ended == [["host-0", "host-1"]]


async def test_a_server_that_was_killed_does_not_make_the_last_one_wait_or_leave_actors(
    place: ModuleType, redis: Redis
) -> None:
    crew = EndingCrew()
    await roster(redis).beat(TWO)
    await silence(redis, "two", 20)
    await redis.delete("satmeter:{cluster}:ray-a:lead")
    async with placed(place, redis, ONE, crew, alone=False) as last:
        await _until_hosts_live_on(crew, {"node-a"})
        async with asyncio.timeout(PATIENCE_S):
            await last.give_away()
    assert crew.all_ended != []


async def test_when_all_leave_at_once_nobody_waits_for_the_others(place: ModuleType, redis: Redis) -> None:
    crew = EndingCrew()
    await roster(redis).beat(replace(TWO, leaving=True))
    await redis.delete("satmeter:{cluster}:ray-a:lead")
    async with placed(place, redis, ONE, crew, alone=False) as last:
        await _until_hosts_live_on(crew, {"node-a"})
        async with asyncio.timeout(PATIENCE_S):
            await last.give_away()
    assert crew.all_ended != []


async def _until_hosts_live_on(crew: EndingCrew, nodes: set[str]) -> None:
    async def live() -> bool:
        return nodes.issubset({host.node_id for host in crew.hosts.values()})

    await until(live)

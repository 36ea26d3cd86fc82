"""The coordinator at work on played hosts, over a real membership: what it starts, watches, replaces, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.partitioning import Placement
from satmeter.actors.placement.coordinator import HostReport
from tests.helpers.coordination import FailingMembership, Stage
from tests.helpers.hosts import until
from tests.helpers.membership import lapse, membership, server, silence
from tests.helpers.patience import PATIENCE_S
from tests.helpers.process_managers import Mood, PlayedProcessManager


@pytest.fixture
def stage(redis: Redis) -> Stage:
    """One server with two CPUs."""
    return Stage(redis, PlayedProcessManager(), server("one"))


async def test_the_first_step_starts_a_host_for_each_cpu_and_the_plan_says_so(stage: Stage, redis: Redis) -> None:
    await stage.steps(1)
    assert stage.processes.started == [("host-0", "node-a"), ("host-1", "node-a")]
    assert stage.plan.members == ("host-0", "host-1")
    assert await membership(redis).placement() == stage.plan
    # They are told at once, without waiting for the next beat.
    assert all(host.placement == stage.plan for host in stage.processes.hosts.values())


async def test_it_is_settled_when_the_hosts_own_everything(stage: Stage) -> None:
    stage.processes.first_mood = Mood.BREAKS
    await stage.steps(2)
    assert not stage.coordinator.settled.is_set()
    for host in stage.processes.hosts.values():
        host.mood = Mood.ANSWERS
    await stage.steps(2)
    assert stage.coordinator.settled.is_set()


async def test_a_cluster_at_rest_is_left_as_it_is(stage: Stage) -> None:
    await stage.steps(1)
    plan = stage.plan
    await stage.steps(3)
    assert stage.plan == plan and len(stage.processes.started) == 2 and stage.processes.ended == []


async def test_a_host_that_misses_once_stays_and_is_asked_again_soon(stage: Stage) -> None:
    await stage.steps(1)
    stage.now_s += 60
    stage.processes.hosts["host-1"].mood = Mood.BREAKS
    async with stage.running():
        await until(_pausing(stage, 1))
        assert stage.plan.members == ("host-0", "host-1")
        assert stage.pauses[0] < 1


@pytest.mark.parametrize("later_s", [0, 60])
async def test_a_host_that_misses_twice_leaves_the_plan_and_returns_when_it_answers(stage: Stage, later_s: int) -> None:
    await stage.steps(1)
    stage.now_s += later_s
    stage.processes.hosts["host-1"].mood = Mood.BREAKS
    await stage.steps(2)
    assert (stage.plan.members, stage.plan.others, stage.plan.away) == (("host-0",), ("host-1",), ("host-1",))
    assert stage.processes.hosts["host-0"].owned == 1_024
    stage.processes.hosts["host-1"].mood = Mood.ANSWERS
    # One that is away is asked beside the step; what it says counts in the next one.
    await stage.steps(2)
    assert (stage.plan.members, stage.plan.away) == (("host-0", "host-1"), ())
    assert stage.processes.ended == []


async def test_a_host_that_has_just_been_started_may_take_its_time(stage: Stage) -> None:
    stage.processes.first_mood = Mood.BREAKS
    await stage.steps(4)
    assert stage.plan.members == ("host-0", "host-1") and stage.plan.version == 1
    stage.processes.hosts["host-0"].mood = Mood.ANSWERS
    stage.now_s += 30
    await stage.steps(2)
    assert stage.plan.members == ("host-0",)


async def test_a_host_that_is_away_never_holds_up_the_others(stage: Stage) -> None:
    await stage.steps(1)
    stage.now_s += 60
    stage.processes.hosts["host-1"].mood = Mood.BREAKS
    await stage.steps(2)
    stage.processes.hosts["host-1"].mood = Mood.HANGS
    # An answer is waited for longer than this.
    async with asyncio.timeout(PATIENCE_S):
        await stage.steps(3)


async def test_a_host_that_stays_away_is_replaced_after_a_minute_and_ended(stage: Stage) -> None:
    await stage.steps(1)
    stage.now_s += 60
    stage.processes.hosts["host-1"].mood = Mood.BREAKS
    await stage.steps(2)
    stage.now_s += 59
    await stage.steps(1)
    assert len(stage.processes.started) == 2
    stage.now_s += 1
    await stage.steps(3)
    assert stage.processes.started[2:] == [("host-2", "node-a")]
    assert stage.processes.ended == ["host-1"]
    assert (stage.plan.members, stage.plan.others) == (("host-0", "host-2"), ())


async def test_a_host_that_is_gone_is_started_again_under_its_name_and_nothing_moves(stage: Stage) -> None:
    await stage.steps(1)
    del stage.processes.hosts["host-1"]
    await stage.steps(1)
    assert stage.processes.started[2:] == [("host-1", "node-a")]
    assert stage.plan.version == 1


async def test_a_host_that_can_not_be_started_is_tried_again(stage: Stage) -> None:
    stage.processes.refuses = True
    await stage.steps(2)
    assert len(stage.processes.started) == 4 and not stage.coordinator.settled.is_set()
    stage.processes.refuses = False
    await stage.steps(2)
    assert stage.coordinator.settled.is_set()


async def test_more_and_fewer_hosts_as_the_operator_wants(stage: Stage, redis: Redis) -> None:
    await stage.steps(1)
    await membership(redis).want_hosts(4)
    await stage.steps(2)
    assert stage.plan.members == ("host-0", "host-1", "host-2", "host-3")
    await membership(redis).want_hosts(1)
    await stage.steps(3)
    assert stage.plan == replace(stage.plan, members=("host-0",), others=())
    assert sorted(stage.processes.ended) == ["host-1", "host-2", "host-3"]


async def test_a_host_that_still_owns_something_is_not_ended(stage: Stage, redis: Redis) -> None:
    await stage.steps(1)
    stage.processes.hosts["host-1"].clings = True
    await membership(redis).want_hosts(1)
    await stage.steps(3)
    assert stage.plan.members == ("host-0",) and stage.processes.ended == []
    stage.processes.hosts["host-1"].owned = 0
    await stage.steps(2)
    assert stage.processes.ended == ["host-1"]


async def test_a_server_that_does_not_lead_starts_and_asks_nobody(stage: Stage, redis: Redis) -> None:
    other = Stage(redis, PlayedProcessManager(), server("two", "node-b"))
    await stage.steps(1)
    await other.steps(2)
    assert not other.coordinator.view.leads
    assert other.processes.started == [] and other.processes.tended == []


async def test_a_new_leader_goes_on_with_the_plan_that_it_finds(stage: Stage, redis: Redis) -> None:
    own = server("two", cpus=2)
    await stage.steps(1)
    other = Stage(redis, stage.processes, own)
    await membership(redis).want_hosts(2)
    await other.steps(1)
    await lapse(redis)
    await other.steps(2)
    assert other.coordinator.view.leads and other.plan == stage.plan
    await stage.steps(1)
    assert not stage.coordinator.view.leads
    assert len(stage.processes.started) == 2 and stage.processes.ended == []


async def test_after_a_cut_of_all_machines_the_hosts_are_where_the_servers_are(stage: Stage, redis: Redis) -> None:
    """The nodes of before are in the roster for another minute, and none waits for them."""
    await stage.steps(1)
    await membership(redis).beat(server("two", "node-b"))
    await stage.steps(2)
    assert {node_id for _, node_id in stage.processes.started} == {"node-a", "node-b"}
    stage.processes.hosts.clear()
    stage.processes.started.clear()
    for server_id in ("one", "two"):
        await silence(redis, server_id, 20)
    await lapse(redis)
    back = Stage(redis, stage.processes, server("three", "node-c"))
    await back.steps(2)
    assert stage.processes.started == [("host-0", "node-c"), ("host-1", "node-c")]
    assert len(back.coordinator.view.servers) == 3 and back.coordinator.settled.is_set()


async def test_who_loses_the_lead_in_the_middle_of_a_step_changes_nothing(stage: Stage, redis: Redis) -> None:
    await stage.steps(1)
    other = Stage(redis, stage.processes, server("two"))
    ask = stage.processes.ask

    async def overtaken(host_id: str, placement: Placement) -> object:
        stage.processes.ask = ask  # type: ignore[method-assign]
        await lapse(redis)
        await other.steps(1)
        return await ask(host_id, placement)

    await membership(redis).want_hosts(6)
    stage.processes.ask = overtaken  # type: ignore[assignment,method-assign]
    started = len(stage.processes.started)
    await stage.steps(1)
    assert other.coordinator.view.leads and len(other.plan.members) == 2
    assert await membership(redis).placement() == other.plan
    assert len(stage.processes.started) == started + 4, "the hosts were started twice"


async def test_a_store_that_is_away_is_told_of_once_and_survived(redis: Redis) -> None:
    failing = FailingMembership(membership(redis))
    stage = Stage(redis, PlayedProcessManager(), server("one"), failing)  # type: ignore[arg-type]
    failing.down = True
    with structlog.testing.capture_logs() as logs:
        async with stage.running():
            for turn in range(1, 4):
                await until(_pausing(stage, turn))
                stage.go_on()
            failing.down = False
            await until(_settled(stage))
    events = [entry["event"] for entry in logs if entry["event"].startswith("cluster_roster")]
    assert events == ["cluster_roster_lost", "cluster_roster_back"]


async def test_a_defect_leaves_the_cluster_with_a_coordinator(redis: Redis) -> None:
    failing = FailingMembership(membership(redis))
    stage = Stage(redis, PlayedProcessManager(), server("one"), failing)  # type: ignore[arg-type]
    failing.defect = KeyError("ours")
    with structlog.testing.capture_logs() as logs:
        async with stage.running():
            await until(_pausing(stage, 1))
            failing.defect = None
            stage.go_on()
            await until(_settled(stage))
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["keeper_round_broke"]


async def test_a_server_that_leaves_has_its_hosts_give_away_what_they_own(stage: Stage, redis: Redis) -> None:
    await stage.steps(1)
    other = Stage(redis, stage.processes, server("two", "node-b"))
    await other.steps(1)
    stage.coordinator.leave()
    await stage.steps(4)
    assert {stage.processes.hosts[name].node_id for name in stage.plan.members} == {"node-b"}
    assert sorted(stage.processes.ended) == ["host-0", "host-1"]
    assert {host.node_id for host in stage.processes.hosts.values()} == {"node-b"}


async def test_the_other_actors_are_tended_beside_and_hold_up_nothing(stage: Stage) -> None:
    stage.processes.tending_hangs = True
    async with asyncio.timeout(PATIENCE_S):
        await stage.steps(3)
    assert stage.coordinator.settled.is_set()
    assert stage.processes.tended == [["node-a"]]


async def test_other_actors_that_were_replaced_are_told_of_and_others_are_not(stage: Stage) -> None:
    with structlog.testing.capture_logs() as logs:
        await stage.steps(1)
        await until(_tended(stage, 1))
        stage.processes.silent = ["oracle"]
        await stage.steps(1)
        await until(_tended(stage, 2))
    assert [entry["actors"] for entry in logs if entry["log_level"] == "warning"] == [["oracle"]]


async def test_it_looks_often_until_all_is_served_and_then_once_a_second(stage: Stage) -> None:
    stage.processes.first_mood = Mood.BREAKS
    async with stage.running():
        for turn in range(1, 4):
            await until(_pausing(stage, turn))
            stage.go_on()
        for host in stage.processes.hosts.values():
            host.mood = Mood.ANSWERS
        await until(_settled(stage))
        await until(_pausing(stage, len(stage.pauses)))
    assert max(stage.pauses[:3]) < 0.5 and stage.pauses[-1] == 1


async def test_a_step_that_took_long_does_not_make_the_next_beat_late(stage: Stage) -> None:
    await stage.steps(1)
    ask = stage.processes.ask

    async def slowly(host_id: str, placement: Placement) -> HostReport:
        stage.now_s += 0.2
        return await ask(host_id, placement)

    stage.processes.ask = slowly  # type: ignore[method-assign]
    async with stage.running():
        await until(_pausing(stage, 1))
    assert stage.pauses[0] == pytest.approx(0.6)


async def test_when_it_ends_nothing_that_it_began_goes_on(stage: Stage) -> None:
    stage.processes.tending_hangs = True
    before = asyncio.all_tasks()
    async with stage.running():
        await until(_settled(stage))
        stage.now_s += 60
        for host in stage.processes.hosts.values():
            host.mood = Mood.HANGS
    assert asyncio.all_tasks() == before


def _pausing(stage: Stage, count: int) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return len(stage.pauses) >= count

    return reached


def _settled(stage: Stage) -> Callable[[], Awaitable[bool]]:
    async def settled() -> bool:
        stage.go_on()
        return stage.coordinator.settled.is_set()

    return settled


def _tended(stage: Stage, count: int) -> Callable[[], Awaitable[bool]]:
    async def tended() -> bool:
        return len(stage.processes.tended) >= count

    return tended

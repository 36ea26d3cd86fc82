"""Members of a cluster and its leader, by the store's word."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from satmeter.actors.adapters.redis.membership import RedisMembership
from satmeter.actors.partitioning import NO_PLACEMENT, Placement
from satmeter.actors.ports import TransientError
from tests.helpers.membership import lapse, membership, server, silence

ONE, TWO = server("one"), server("two", "node-b")
FIRST_PLAN = Placement(1, ("host-0", "host-1"), ("host-2",), ("host-2",), 30.0)


async def test_the_first_server_leads_and_both_see_each_other(redis: Redis) -> None:
    assert (await membership(redis).beat(ONE)).leads
    seen = await membership(redis).beat(TWO)
    assert not seen.leads and seen.servers == [ONE, TWO] and seen.silent == []
    assert (await membership(redis).beat(ONE)).servers == [ONE, TWO]


async def test_who_leads_goes_on_leading_as_long_as_it_beats(redis: Redis) -> None:
    for _ in range(3):
        assert (await membership(redis).beat(ONE)).leads
        assert not (await membership(redis).beat(TWO)).leads


async def test_the_lead_passes_on_when_its_lease_lapses(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).beat(TWO)
    await lapse(redis)
    assert (await membership(redis).beat(TWO)).leads
    assert not (await membership(redis).beat(ONE)).leads


async def test_who_leaves_is_gone_at_once_and_gives_up_the_lead(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).beat(TWO)
    await membership(redis).leave("one")
    seen = await membership(redis).beat(TWO)
    assert seen.leads and seen.servers == [TWO]


async def test_who_leaves_without_the_lead_does_not_take_it_from_others(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).beat(TWO)
    await membership(redis).leave("two")
    assert not (await membership(redis).beat(TWO)).leads


async def test_a_server_that_goes_silent_is_told_of_and_forgotten_late(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).beat(TWO)
    await silence(redis, "two", 30)
    seen = await membership(redis).beat(ONE)
    assert (seen.servers, seen.silent) == ([ONE, TWO], ["two"])
    await silence(redis, "two", 40)
    seen = await membership(redis).beat(ONE)
    assert (seen.servers, seen.silent) == ([ONE], [])
    assert (await membership(redis).beat(TWO)).servers == [ONE, TWO]


async def test_servers_that_were_all_killed_are_forgotten_though_nobody_is_left_to_clear_away(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await silence(redis, "one", 70)
    assert (await membership(redis).view()).servers == []


async def test_what_a_server_says_of_itself_replaces_what_it_said_before(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    leaving = replace(ONE, leaving=True)
    assert (await membership(redis).beat(leaving)).servers == [leaving]


async def test_whoever_looks_around_takes_no_part(redis: Redis) -> None:
    seen = await membership(redis).view()
    assert (seen.leads, seen.hosts_wanted, seen.placement, list(seen.servers)) == (False, None, NO_PLACEMENT, [])
    await membership(redis).beat(ONE)
    seen = await membership(redis).view()
    assert not seen.leads and seen.servers == [ONE]


async def test_the_leader_publishes_a_plan_that_all_see(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    assert await membership(redis).placement() == NO_PLACEMENT
    assert await membership(redis).publish("one", FIRST_PLAN)
    assert await membership(redis).placement() == FIRST_PLAN
    assert (await membership(redis).beat(TWO)).placement == FIRST_PLAN


@pytest.mark.parametrize("version", [1, 3])
async def test_a_plan_must_follow_upon_the_one_that_is_there(redis: Redis, version: int) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).publish("one", FIRST_PLAN)
    assert not await membership(redis).publish("one", replace(FIRST_PLAN, version=version, members=("other",)))
    assert await membership(redis).placement() == FIRST_PLAN
    assert await membership(redis).publish("one", replace(FIRST_PLAN, version=2))


async def test_who_no_longer_leads_publishes_nothing(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).beat(TWO)
    assert not await membership(redis).publish("two", FIRST_PLAN)
    await lapse(redis)
    assert not await membership(redis).publish("one", FIRST_PLAN)
    await membership(redis).beat(TWO)
    assert not await membership(redis).publish("one", FIRST_PLAN)
    assert await membership(redis).placement() == NO_PLACEMENT
    assert await membership(redis).publish("two", FIRST_PLAN)


async def test_a_plan_is_as_good_as_a_beat(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await redis.pexpire("satmeter:{cluster}:ray-a:lead", 500)
    assert await membership(redis).publish("one", FIRST_PLAN)
    assert await redis.pttl("satmeter:{cluster}:ray-a:lead") > 1_000


async def test_the_number_of_hosts_that_the_operator_wants_is_seen_by_all(redis: Redis) -> None:
    assert (await membership(redis).beat(ONE)).hosts_wanted is None
    await membership(redis, None).want_hosts(5)
    assert (await membership(redis).beat(ONE)).hosts_wanted == 5
    await membership(redis, None).want_hosts(None)
    assert (await membership(redis).beat(ONE)).hosts_wanted is None


async def test_two_ray_clusters_on_one_store_do_not_see_each_other(redis: Redis) -> None:
    assert (await membership(redis).beat(ONE)).leads
    await membership(redis).publish("one", FIRST_PLAN)
    other = await membership(redis, "ray-b").beat(TWO)
    assert other.leads and other.servers == [TWO] and other.placement == NO_PLACEMENT
    await membership(redis, "ray-b").leave("one")
    assert (await membership(redis).beat(ONE)).servers == [ONE]


async def test_without_a_name_the_cluster_is_seen_that_used_the_store_last(redis: Redis) -> None:
    await membership(redis, "ray-b").beat(TWO)
    await redis.zincrby("satmeter:{cluster}:clusters", -1_000, "ray-b")
    await membership(redis).beat(ONE)
    assert (await membership(redis, None).view()).servers == [ONE]
    await redis.zincrby("satmeter:{cluster}:clusters", -2_000, "ray-a")
    assert (await membership(redis, None).view()).servers == [TWO]


async def test_the_name_of_the_deployment_stays(redis: Redis) -> None:
    name = await membership(redis).deployment()
    assert len(name) == 8
    assert await membership(redis, "ray-b").deployment() == name


async def test_what_a_cluster_leaves_in_the_store_expires(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).publish("one", FIRST_PLAN)
    await membership(redis).beat(ONE)
    own = [key async for key in redis.scan_iter("satmeter:{cluster}:ray-a:*")]
    assert len(own) == 4
    assert all([await redis.pttl(key) > 0 for key in own])


async def test_a_store_that_is_away_is_a_passing_trouble() -> None:
    client: Redis = Redis.from_url("redis://127.0.0.1:1", retry=Retry(NoBackoff(), 0))
    away = RedisMembership(client, "ray-a")
    for call in (away.beat(ONE), away.view(), away.leave("one"), away.publish("one", FIRST_PLAN)):
        with pytest.raises(TransientError):
            await call
    for more in (away.placement(), away.want_hosts(3), away.deployment()):
        with pytest.raises(TransientError):
            await more
    await client.aclose()


# The store's clock is set, or is behind after a reboot. To set it forward makes what stands there older; back, newer.

HOUR_S = 3_600


async def test_a_clock_set_forward_makes_no_server_that_is_there_forgotten(redis: Redis) -> None:
    """Its hosts would be taken for homeless, and be moved to and fro."""
    await membership(redis).beat(ONE)
    await membership(redis).beat(TWO)
    for server_id in ("one", "two"):
        await silence(redis, server_id, HOUR_S)
    seen = await membership(redis).beat(ONE)
    assert (seen.servers, seen.silent) == ([ONE, TWO], [])
    await silence(redis, "two", 70)
    assert (await membership(redis).beat(ONE)).servers == [ONE], "from then on it is as silent as it is"


async def test_a_clock_set_back_keeps_no_server_that_is_gone(redis: Redis) -> None:
    await membership(redis).beat(ONE)
    await membership(redis).beat(TWO)
    for server_id in ("one", "two"):
        await silence(redis, server_id, -HOUR_S)
    assert (await membership(redis).beat(ONE)).servers == [ONE, TWO]
    await silence(redis, "two", 70)
    assert (await membership(redis).beat(ONE)).servers == [ONE]


async def test_a_clock_set_back_leaves_no_dead_server_the_lead(redis: Redis) -> None:
    """Else its lease runs for as long as the clock was set back, and no server looks after the hosts."""
    await membership(redis).beat(TWO)
    await redis.pexpire("satmeter:{cluster}:ray-a:lead", HOUR_S * 1_000)
    await silence(redis, "two", -HOUR_S)
    assert not (await membership(redis).beat(ONE)).leads, "it may be alive"
    await silence(redis, "two", 7)
    assert (await membership(redis).beat(ONE)).leads
    assert not (await membership(redis).beat(TWO)).leads


async def test_after_a_clock_was_set_back_the_cluster_that_beats_is_the_one_that_used_the_store_last(
    redis: Redis,
) -> None:
    await membership(redis, "ray-b").beat(TWO)
    await redis.zincrby("satmeter:{cluster}:clusters", HOUR_S * 1_000, "ray-b")
    await membership(redis).beat(ONE)
    assert (await membership(redis, None).view()).servers == [ONE]

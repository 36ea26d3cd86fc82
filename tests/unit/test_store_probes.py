"""What is said about the operator's own store of several servers before anything is trusted to it."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.redis_cluster import ClusterRedis
from satmeter.config.settings import Environment, Settings
from satmeter.scripts.store_probes import store_problems
from tests.stores import watched


async def found(url: str, *, production: bool = True) -> list[str]:
    env = Environment.PRODUCTION if production else Environment.DEVELOPMENT
    problems = await store_problems(Settings(redis_url=url, env=env))
    assert all(problem.variable == "REDIS_URL" for problem in problems)
    return [problem.message for problem in problems]


async def test_a_cluster_that_is_fit_is_accepted(cluster_url: str) -> None:
    assert await found(cluster_url) == []


async def test_each_node_of_a_cluster_is_looked_at(cluster_url: str, clustered: ClusterRedis) -> None:
    address, node = list((await clustered.primaries()).items())[1]
    await node.config_set("appendonly", "no")
    try:
        (message,) = await found(cluster_url)
        assert message.startswith(f"Node {address} of the cluster: ")
        assert "appendonly yes" in message
        assert await found(cluster_url, production=False) == []
    finally:
        await node.config_set("appendonly", "yes")


async def test_a_primary_that_may_lose_payments_in_a_failover_is_found(sentinel_url: str) -> None:
    (message,) = await found(sentinel_url)
    assert "min-replicas-to-write 1" in message
    assert await found(sentinel_url, production=False) == []


async def test_a_primary_that_waits_for_a_replica_is_accepted_and_so_is_one_that_hides_its_configuration() -> None:
    async with watched() as store, store.servers[0].client() as primary:
        await primary.config_set("min-replicas-to-write", 1)
        assert await found(store.url) == []
        await primary.config_set("min-replicas-to-write", 0)
        await primary.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
        assert await found(store.url) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster", "None of the sentinels answers"),
        ("redis+cluster://127.0.0.1:1", "The cluster does not answer as a whole"),
    ],
)
async def test_servers_that_do_not_answer_are_told(url: str, words: str) -> None:
    (message,) = await found(url)
    assert message.startswith(words)
    assert "mend their addresses" in message


async def test_a_master_that_the_sentinels_do_not_know_is_told(sentinel_url: str) -> None:
    (message,) = await found(sentinel_url.replace("mymaster", "other"))
    assert message == "The sentinels watch no master 'other': mend the name behind their addresses."


async def test_a_store_that_is_named_as_what_it_is_not_is_told_with_the_right_form(
    cluster_url: str, sentinel_url: str, clustered: ClusterRedis
) -> None:
    node = next(iter(await clustered.primaries()))
    sentinel = sentinel_url.removeprefix("redis+sentinel://").partition("/")[0]
    assert await found(f"redis://{node}") == [
        "The store is a node of a cluster: write redis+cluster:// instead of redis://."
    ]
    (message,) = await found(f"redis://{sentinel}")
    assert "write redis+sentinel://" in message


async def test_a_server_without_a_cluster_is_told() -> None:
    async with watched() as store:
        (message,) = await found(f"redis+cluster://{store.servers[0].address}")
    assert "cluster support disabled" in message


async def test_a_primary_that_is_down_is_told() -> None:
    async with watched() as store:
        for server in store.servers:
            server.process.kill()
            server.process.wait()
        (message,) = await found(store.url)
    assert message.startswith("The primary that the sentinels name does not answer")

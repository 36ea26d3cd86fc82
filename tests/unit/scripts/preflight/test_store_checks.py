"""Checks of an operator's own store of several servers, before anything is trusted to it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.cluster_client import ClusterRedis
from satmeter.actors.adapters.redis.durability import Loss, loss_of
from satmeter.config.settings import Environment, Settings
from satmeter.scripts.preflight.store_checks import store_problems, store_warnings
from tests.helpers.stores import watched


def settings_of(url: str, *, production: bool = True, allowed: str = "") -> Settings:
    env = Environment.PRODUCTION if production else Environment.DEVELOPMENT
    return Settings(redis_url=url, env=env, allow_store_loss=allowed)  # type: ignore[arg-type]


async def found(url: str, *, production: bool = True, allowed: str = "") -> list[str]:
    problems = await store_problems(settings_of(url, production=production, allowed=allowed))
    assert all(problem.variable == "REDIS_URL" for problem in problems)
    return [problem.message for problem in problems]


async def warned(url: str, *, production: bool = False, allowed: str = "") -> list[str]:
    problems = await store_warnings(settings_of(url, production=production, allowed=allowed))
    assert all(problem.variable == "REDIS_URL" for problem in problems)
    return [problem.message for problem in problems]


async def test_a_socket_that_is_not_there_is_no_file_of_the_address() -> None:
    (message,) = await found("unix:///nowhere/store.sock")
    assert "does not answer" in message and "ssl_ca_certs" not in message


LOSING = [
    ({"appendfsync": "everysec"}, "everysec", "once a second"),
    ({"appendfsync": "no"}, "no", "leaves it to the system"),
    ({"no-appendfsync-on-rewrite": "yes"}, "rewrite", "while it rewrites its file"),
]
SAFE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


@pytest.mark.parametrize(("config", "name", "words"), LOSING)
async def test_a_store_that_may_lose_what_it_confirmed_is_refused_unless_that_is_allowed_by_name(
    redis: Redis, store_url: str, config: dict[str, str], name: str, words: str
) -> None:
    assert await found(store_url) == await warned(store_url) == []
    for setting, value in config.items():
        await redis.config_set(setting, value)
    try:
        (message,) = await found(store_url)
        assert words in message and f"SATMETER_ALLOW_STORE_LOSS={name}" in message
        assert await found(store_url, allowed="unknown") == [message]
        assert await found(store_url, allowed=f"unknown,{name}") == []
        (warning,) = await warned(store_url, production=True, allowed=name)
        assert words in warning and "SATMETER_ALLOW_STORE_LOSS" not in warning
        # Development starts, and says so.
        assert await found(store_url, production=False) == []
        (warning,) = await warned(store_url)
        assert (
            words in warning and f"Production refuses such a store unless SATMETER_ALLOW_STORE_LOSS={name}" in warning
        )
    finally:
        for setting, value in SAFE.items():
            await redis.config_set(setting, value)


async def test_development_warns_of_a_store_without_its_file_which_production_never_takes(
    redis: Redis, store_url: str
) -> None:
    await redis.config_set("appendonly", "no")
    try:
        (message,) = await found(store_url, allowed="everysec,no,rewrite,unknown")
        assert "appendonly yes" in message and "ALLOW" not in message
        assert await found(store_url, production=False) == []
        (warning,) = await warned(store_url)
        assert "appendonly yes" in warning and warning.endswith("Production refuses such a store.")
    finally:
        await redis.config_set("appendonly", "yes")


async def test_a_store_that_leaves_its_file_out_of_its_answer_does_not_tell(redis: Redis) -> None:
    assert await loss_of(redis) is None
    assert await loss_of(redis, {"redis_version": "7.0.0"}) is Loss.UNKNOWN
    assert await loss_of(redis, {"aof_enabled": 0}) is Loss.NO_FILE


@pytest.mark.parametrize("value", ["everything", "no-file", "always"])
def test_only_what_a_store_may_lose_can_be_allowed(value: str) -> None:
    with pytest.raises(ValidationError):
        settings_of("redis://x", allowed=value)


async def test_each_node_of_a_cluster_must_write_at_once(cluster_url: str, clustered: ClusterRedis) -> None:
    address, node = list((await clustered.primaries()).items())[2]
    await node.config_set("appendfsync", "everysec")
    try:
        (message,) = await found(cluster_url)
        assert message.startswith(f"Node {address} of the cluster: ") and "once a second" in message
        assert await found(cluster_url, allowed="everysec") == []
        assert len(await warned(cluster_url)) == 1
    finally:
        await node.config_set("appendfsync", "always")


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


async def test_a_primary_that_waits_for_a_replica_is_accepted_and_one_that_hides_its_configuration_if_allowed() -> None:
    async with watched() as store, store.servers[0].client() as primary:
        await primary.config_set("min-replicas-to-write", 1)
        assert await found(store.url) == []
        await primary.config_set("min-replicas-to-write", 0)
        await primary.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
        (message,) = await found(store.url)
        assert "does not say" in message and "SATMETER_ALLOW_STORE_LOSS=unknown" in message
        assert await found(store.url, allowed="unknown") == []
        assert len(await warned(store.url)) == 1


async def test_a_primary_behind_a_sentinel_must_write_at_once() -> None:
    async with watched() as store, store.servers[0].client() as primary:
        await primary.config_set("min-replicas-to-write", 1)
        await primary.config_set("appendfsync", "everysec")
        (message,) = await found(store.url)
        assert "once a second" in message


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

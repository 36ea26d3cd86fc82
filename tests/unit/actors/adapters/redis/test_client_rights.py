"""The store's user of deploy/store-user.acl: it has the rights that the code uses, and no others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.audit import AuditStore
from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.cluster_client import ClusterRedis
from satmeter.actors.adapters.redis.format import enter_format
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.adapters.redis.marks import RedisMarks
from satmeter.actors.adapters.redis.model_outage import RedisModelBoard
from satmeter.actors.ports import Append
from satmeter.config.settings import Environment, Settings
from satmeter.scripts.preflight.store_checks import store_problems
from tests.helpers.secure_stores import PASSWORD, grant, refused_to, rights, store_with_rights
from tests.helpers.stores import cluster, nodes_of, watched

ROOT = Path(__file__).parents[5]
SOURCES = [*(ROOT / "actors").rglob("*.py"), *(ROOT / "scripts" / "preflight").rglob("*.py")]
# Sent by the client library: for a database other than 0, and for the stub node's hints.
BY_THE_LIBRARY = {"select", "subscribe", "unsubscribe", "evalsha", "script|load"}
# Only asked of sentinels, which have users of their own.
OF_SENTINELS = {"sentinel|get-master-addr-by-name"}
LUA = re.compile(r"redis\.p?call\('([A-Z]+)'")
CLIENTS = {"redis", "_redis", "pipe", "node", "client"}
NO_COMMANDS = {"aclose", "pipeline", "pubsub", "register_script", "execute_command", "sentinel"}
SENT = ("execute_command", "send_command", ".run")


def words_in(source: Path) -> Iterator[str]:
    """Yields the commands of a source: those of its scripts, and those that it calls or sends by name."""
    text = source.read_text()
    yield from (name.lower() for name in LUA.findall(text))
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        on, method = ast.unparse(node.func.value).rpartition(".")[2], node.func.attr
        if on in CLIENTS and hasattr(Redis, method) and method not in NO_COMMANDS:
            yield {"config_get": "config|get", "script_load": "script|load", "delete": "del"}.get(method, method)
        elif ast.unparse(node.func).endswith(SENT) and node.args and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value).lower().replace(" ", "|")


def allowed() -> set[str]:
    return {word.removeprefix("+") for word in rights() if word.startswith("+")}


def test_the_user_may_send_what_the_code_sends_and_nothing_else() -> None:
    used = {word for source in SOURCES if "redis" in source.read_text() for word in words_in(source)}
    used = (used | BY_THE_LIBRARY) - OF_SENTINELS
    assert used - allowed() == set(), "the code sends these: add them to deploy/store-user.acl and CHANGELOG.md"
    assert allowed() - used == set(), "no code sends these: take them out of deploy/store-user.acl"


def test_the_user_has_no_dangerous_right_and_only_our_keys() -> None:
    assert [word for word in rights() if not word.startswith("+")] == ["on", "~satmeter:*", "&satmeter:*", "-@all"]
    for word in (
        "flushall",
        "flushdb",
        "keys",
        "shutdown",
        "debug",
        "config",
        "acl",
        "migrate",
        "restore",
        "replicaof",
    ):
        assert word not in allowed() and f"{word}|set" not in allowed()


async def works(redis: Redis, url: str) -> None:
    """Does what each process does with its store."""
    journal = RedisJournal(redis)
    marks = RedisMarks(redis, "a")
    await enter_format(redis)
    await marks.raise_all()
    raised = await marks.raise_all()
    assert await marks.read(raised) == raised and set(raised.values()) == {2}
    epochs = await journal.claim([7, 500, 1_000], "host")
    for partition, epoch in epochs.items():
        await journal.append(Append(partition, epoch, "ses_a", 0, [b'{"seq":1}'], liability_change_msat=5))
        assert (await journal.load(partition, "ses_a")).events == [b'{"seq":1}']
        await journal.history(partition, "ses_a", 0, 9)
        await journal.search(partition, "ses_a", "x", 9)
    await journal.due(list(epochs), 1)
    await journal.check()
    await RedisModelBoard(redis).count_failure()
    audit = AuditStore(redis)
    assert sum([len(keys) async for keys in audit.actors()]) == 3
    await audit.liability()
    assert await store_problems(Settings(redis_url=url, env=Environment.PRODUCTION)) == []
    await redis.aclose()


async def test_all_works_with_these_rights_on_one_server() -> None:
    async with store_with_rights() as store:
        await works(connect(store.url), store.url)
        assert await refused_to(store.admin) == []


async def test_all_works_with_these_rights_on_a_cluster() -> None:
    async with cluster() as store:
        nodes = [server.client() for server in store.servers]
        for node in nodes:
            await grant(node)
        url = store.url.replace("://", f"://satmeter:{PASSWORD}@")
        redis = connect(url)
        assert isinstance(redis, ClusterRedis) and len(await nodes_of(redis)) == 3
        await works(redis, url)
        assert [await refused_to(node) for node in nodes] == [[], [], []]
        for node in nodes:
            await node.aclose()


async def test_all_works_with_these_rights_behind_a_sentinel() -> None:
    async with watched() as store, store.servers[0].client() as primary:
        await primary.config_set("min-replicas-to-write", 1)
        await grant(primary)
        url = store.url.replace("://", f"://satmeter:{PASSWORD}@")
        await works(connect(url), url)
        assert await refused_to(primary) == []


@pytest.mark.parametrize(
    ("user", "words"),
    [("satmeter:wrong", "does not accept its user or password"), ("satmeter", "does not accept its user or password")],
)
async def test_a_wrong_password_is_told(user: str, words: str) -> None:
    async with store_with_rights() as store:
        (problem,) = await store_problems(Settings(redis_url=f"redis://{user}@127.0.0.1:{store.port}"))
        assert words in problem.message


async def test_a_right_that_is_missing_is_told() -> None:
    async with store_with_rights() as store:
        await store.admin.execute_command("ACL", "SETUSER", "satmeter", "-info")  # type: ignore[no-untyped-call]
        (problem,) = await store_problems(Settings(redis_url=store.url))
        assert "store-user.acl" in problem.message and "info" in problem.message

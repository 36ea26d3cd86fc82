"""`satmeter scale`: what it shows, what it sets, and what it says when it can't."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from redis.asyncio import Redis
from rich.console import Console
from typer.testing import CliRunner

from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.partitioning import PARTITIONS, Placement, owned_by
from satmeter.config.settings import Settings
from satmeter.scripts.commands import app
from satmeter.scripts.server.scale import ScaleError, scale, show
from tests.helpers.hosts import until
from tests.helpers.membership import membership, server, silence

PAIR = ("host-0", "host-1")


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment and a working directory that have nothing of ours."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["scale", *words], terminal_width=200)
    return result.exit_code, result.stdout, result.stderr


async def place(redis: Redis, *members: str, others: tuple[str, ...] = (), away: tuple[str, ...] = ()) -> None:
    """The leader publishes this plan."""
    version = (await membership(redis).placement()).version + 1
    assert (await membership(redis).beat(server("one"))).leads
    assert await membership(redis).publish("one", Placement(version, members, others, away))


async def move(redis: Redis, *host_ids: str) -> None:
    """The hosts have taken their shares."""
    for host_id in host_ids:
        await RedisJournal(redis).claim(owned_by(host_id, host_ids), host_id)


async def output(call: Callable[[Console], object]) -> str:
    """Return the output that is printed meanwhile."""
    text = StringIO()
    await call(Console(file=text, width=200))  # type: ignore[misc]
    return text.getvalue()


def test_help_says_what_it_does_and_the_limits() -> None:
    status, out, _ = run("--help")
    assert status == 0
    words = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", out).split())
    assert "--hosts" in words and "1 to 256" in words and "auto" in words


@pytest.mark.parametrize("hosts", ["0", "257", "-1", "two", "1.5", "", "²", "9" * 5_000])
def test_numbers_that_make_no_sense_are_refused(hosts: str) -> None:
    assert run(f"--hosts={hosts}") == (2, "", "--hosts: must be a number from 1 to 256, or auto\n")


def test_a_data_directory_without_a_server_is_told_so() -> None:
    for words in ([], ["--hosts", "3"]):
        status, out, err = run(*words)
        assert (status, out) == (1, "")
        assert "No server runs with the data directory" in err and "--data-dir" in err and "--redis-url" in err


def test_a_store_that_does_not_answer_is_told_so() -> None:
    for words in ([], ["--hosts", "3"]):
        status, _, err = run("--redis-url", "redis://127.0.0.1:1", *words)
        assert status == 1
        assert err.startswith("The store does not answer") and "REDIS_URL" in err


async def test_a_store_that_no_server_uses_is_told_so_and_nothing_is_set(store_url: str, redis: Redis) -> None:
    settings = Settings(redis_url=store_url)
    for call in (lambda c: show(settings, c), lambda c: scale(settings, 3, 5, c)):
        with pytest.raises(ScaleError, match="No server uses this store: start one with `satmeter serve`"):
            await output(call)
    assert (await membership(redis).view()).hosts_wanted is None


async def test_servers_that_were_all_killed_are_no_servers(store_url: str, redis: Redis) -> None:
    await membership(redis).beat(server("one"))
    await silence(redis, "one", 70)
    with pytest.raises(ScaleError, match="No server uses this store"):
        await output(lambda console: show(Settings(redis_url=store_url), console))


async def test_it_shows_servers_and_hosts_with_what_they_own(store_url: str, redis: Redis) -> None:
    await membership(redis).beat(server("one"))
    await membership(redis).beat(server("two", "node-b", cpus=3, leaving=True))
    await membership(redis).beat(server("three", "node-c"))
    await silence(redis, "three", 20)
    await place(redis, *PAIR, others=("host-2", "host-3"), away=("host-3",))
    await move(redis, *PAIR)
    await RedisJournal(redis).claim([0, 1], "host-9")
    lines = [line.split() for line in (await output(lambda c: show(Settings(redis_url=store_url), c))).splitlines()]
    assert ["one:8402", "node-a", "2"] in lines
    assert ["two:8402", "node-b", "3", "leaving"] in lines
    assert ["three:8402", "node-c", "2", "does", "not", "answer"] in lines
    owned = {line[0]: int(line[1]) for line in lines if line and line[0].startswith("host-")}
    assert owned["host-9"] == 2 and sum(owned.values()) == PARTITIONS
    assert ["host-2", "0", "coming", "or", "going"] in lines
    assert ["host-3", "0", "does", "not", "answer"] in lines
    assert ["host-9", "2", "no", "longer", "exists"] in lines
    assert ["2", "of", "4", "hosts", "(as", "the", "servers", "have", "it)."] in lines


async def test_it_waits_until_all_partitions_are_in_place(store_url: str, redis: Redis) -> None:
    await place(redis, "host-0")
    await move(redis, "host-0")
    scaling = asyncio.create_task(output(lambda console: scale(Settings(redis_url=store_url), 2, 30, console)))

    async def wanted() -> bool:
        return (await membership(redis).view()).hosts_wanted == 2

    await until(wanted)
    await place(redis, *PAIR)
    done, _ = await asyncio.wait({scaling}, timeout=0.3)
    assert not done, "nothing has moved yet"
    await move(redis, *PAIR)
    assert "2 hosts, all partitions in place." in await scaling
    assert "2 of 2 hosts (as asked for)." in await output(lambda console: show(Settings(redis_url=store_url), console))


async def test_auto_is_as_many_as_the_servers_have_it(store_url: str, redis: Redis) -> None:
    await membership(redis).want_hosts(7)
    await place(redis, *PAIR)
    await move(redis, *PAIR)
    said = await output(lambda console: scale(Settings(redis_url=store_url), None, 30, console))
    assert "2 hosts, all partitions in place." in said
    assert (await membership(redis).view()).hosts_wanted is None


async def test_when_it_takes_too_long_it_says_that_it_goes_on(store_url: str, redis: Redis) -> None:
    await place(redis, "host-0")
    with pytest.raises(ScaleError, match=r"they go on.*`satmeter scale`"):
        await output(lambda console: scale(Settings(redis_url=store_url), 2, 0.05, console))
    assert (await membership(redis).view()).hosts_wanted == 2


def test_the_command_ends_with_status_1_when_it_takes_too_long(store_url: str) -> None:
    async def prepare() -> None:
        redis: Redis = Redis.from_url(store_url)
        await redis.flushall()
        await place(redis, "host-0")
        await redis.aclose()

    asyncio.run(prepare())
    status, _, err = run("--redis-url", store_url, "--hosts", "2", "--timeout", "1")
    assert status == 1 and "they go on" in err

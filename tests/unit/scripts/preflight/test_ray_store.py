"""The check of Ray's user in the store, at a real store with real users."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import RedisError

from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.format import enter_format
from satmeter.config.problem import Problem
from satmeter.config.settings import Environment, Settings
from satmeter.scripts.preflight.probes import probe
from satmeter.scripts.preflight.ray_store import ray_store_problems
from tests.helpers.secure_stores import PASSWORD, SecureStore, grant, store_with_rights

PRODUCTION = Settings(env=Environment.PRODUCTION)


def _login(store: SecureStore, user: str = "ray", password: str = PASSWORD) -> dict[str, str]:
    address = {"RAY_REDIS_ADDRESS": f"127.0.0.1:{store.port}"}
    return {**address, "RAY_REDIS_USERNAME": user, "RAY_REDIS_PASSWORD": password}


async def _with(store: SecureStore, *rights: str) -> None:
    await store.admin.execute_command("ACL", "SETUSER", "ray", "reset", "on", f">{PASSWORD}", *rights)  # type: ignore[no-untyped-call]


async def _enter(store: SecureStore) -> None:
    client = connect(store.url)
    await enter_format(client)
    await client.aclose()


async def test_the_documented_user_is_well() -> None:
    async with store_with_rights() as store:
        await grant(store.admin, "ray")
        await _enter(store)
        for settings in (PRODUCTION, Settings(redis_url=store.url)):
            assert await ray_store_problems(_login(store), settings) == []


@pytest.mark.parametrize(
    "rights",
    [
        ("~*", "+@all"),
        ("~satmeter:*", "-@all", "+get"),
        ("%R~*", "-@all", "+exists"),
        ("~*", "-@all", "+hget"),
        ("~RAY*", "-@all", "+scan"),
    ],
)
async def test_a_user_who_reaches_our_keys_or_their_names_is_found(rights: tuple[str, ...]) -> None:
    async with store_with_rights() as store:
        await _with(store, *rights)
        await _enter(store)
        (problem,) = await ray_store_problems(_login(store), PRODUCTION)
        assert problem.variable == "RAY_REDIS_USERNAME" and "ray-store-user.acl" in problem.message
        assert PASSWORD not in problem.message


@pytest.mark.parametrize("rights", [("~*", "-@all", "+exists"), ("~RAY*", "-@all", "+config|get")])
async def test_in_our_store_it_is_found_before_any_key_is_there(rights: tuple[str, ...]) -> None:
    async with store_with_rights() as store:
        await _with(store, *rights)
        assert await ray_store_problems(_login(store), PRODUCTION) == []
        ours = Settings(env=Environment.PRODUCTION, redis_url=store.url)
        assert len(await ray_store_problems(_login(store), ours)) == 1


async def test_a_store_of_ray_s_own_may_give_all_rights() -> None:
    async with store_with_rights() as store, store_with_rights() as other:
        await _with(other, "~*", "+@all")
        ours = Settings(env=Environment.PRODUCTION, redis_url=store.url)
        assert await ray_store_problems(_login(other), ours) == []


async def test_a_wrong_password_is_told_without_it() -> None:
    async with store_with_rights() as store:
        (problem,) = await ray_store_problems(_login(store, password="wrong-password"), PRODUCTION)
        assert problem.variable == "RAY_REDIS_PASSWORD" and "wrong" not in problem.message


async def test_a_plain_address_beyond_this_machine_is_sent_no_password() -> None:
    given = {"RAY_REDIS_ADDRESS": "store.example:6379", "RAY_REDIS_PASSWORD": "hidden"}
    (problem,) = await ray_store_problems(given, PRODUCTION)
    assert problem.variable == "RAY_REDIS_ADDRESS" and "rediss://" in problem.message


@pytest.mark.parametrize("address", ["http://store:1", "store:port", "redis+sentinel://store:1/main"])
async def test_an_address_that_ray_does_not_know_is_told(address: str) -> None:
    (problem,) = await ray_store_problems({"RAY_REDIS_ADDRESS": address}, Settings())
    assert problem.variable == "RAY_REDIS_ADDRESS"


async def test_files_are_held_to_what_holds_for_all_secrets(tmp_path: Path) -> None:
    file = tmp_path / "password"
    given = {"RAY_REDIS_ADDRESS": "127.0.0.1:1", "RAY_REDIS_PASSWORD_FILE": str(file)}
    assert [problem.variable for problem in await ray_store_problems(given, PRODUCTION)] == ["RAY_REDIS_PASSWORD_FILE"]
    file.write_text("hidden")
    file.chmod(0o644)
    (problem,) = await ray_store_problems(given, PRODUCTION)
    assert problem.variable == "RAY_REDIS_PASSWORD_FILE" and "chmod 600" in problem.message


@pytest.mark.parametrize("redis_url", [None, "store:6379", "redis://store:port"])
async def test_a_store_that_does_not_answer_is_an_error(redis_url: str | None) -> None:
    # An address of our own that can't be read is told elsewhere.
    settings = Settings(env=Environment.PRODUCTION, redis_url=redis_url)
    with pytest.raises((RedisError, OSError)):
        await ray_store_problems({"RAY_REDIS_ADDRESS": "127.0.0.1:1"}, settings)


@pytest.mark.parametrize("env", list(Environment))
async def test_check_refuses_in_production_and_warns_in_development(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store_with_rights() as store:
        await _with(store, "~*", "+@all")
        await _enter(store)
        for name, value in _login(store).items():
            monkeypatch.setenv(name, value)
        found = await probe(Settings(env=env))
        told = (found.problems, found.warnings) if env is Environment.PRODUCTION else (found.warnings, found.problems)
        assert [[problem.variable for problem in part] for part in told] == [["RAY_REDIS_USERNAME"], []]


async def test_check_tells_of_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_REDIS_ADDRESS", "127.0.0.1:1")
    found = await probe(PRODUCTION)
    assert [type(problem) for problem in found.problems] == [Problem]
    assert "does not answer" in found.problems[0].message

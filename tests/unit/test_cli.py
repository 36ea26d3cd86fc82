"""The command line: it says what is wrong with a configuration, by the name of the variable, and how to mend it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from satmeter.config.settings import Settings
from satmeter.scripts.commands import app
from satmeter.scripts.probes import probe
from satmeter.scripts.store_probes import store_problems, unfit_store

# Port 1 is privileged and unused: nothing ever listens there.
NOBODY = "http://127.0.0.1:1"
FIT = {"redis_version": "7.0.0", "role": "master", "aof_enabled": 1, "maxmemory": 0, "maxmemory_policy": "noeviction"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables in an environment that has none of ours."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@asynccontextmanager
async def _answering(status: Callable[[str, str], int]) -> AsyncIterator[str]:
    """An HTTP server that answers with the status for a path and the key that came with it; yields its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        keys = [line.partition(": ")[2] for line in head if line.lower().startswith("x-api-key: ")]
        code = status(head[0].split()[1], keys[0])
        writer.write(f"HTTP/1.1 {code} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _probed(**settings: Any) -> list[str]:
    return [problem.variable for problem in await probe(Settings(**settings))]


def _run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.stdout, result.stderr


def test_a_configuration_without_fault_is_told_part_by_part(environment: Callable[..., None]) -> None:
    environment()
    status, out, err = _run("check")
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[1:5]] == [
        ["Store", "real"],
        ["Actors", "real"],
        ["Lightning", "stub"],
        ["Model", "stub"],
    ]
    assert "Nothing is wrong" in out


def test_all_problems_are_told_at_once_with_status_1(environment: Callable[..., None]) -> None:
    environment(SATMETER_ENV="production", SATMETER_RATE_LIMITS="off")
    for command in ("check", "serve"):
        status, _, err = _run(command)
        assert status == 1
        assert [line.partition(":")[0] for line in err.splitlines()] == [
            "LNBITS_URL",
            "ANTHROPIC_API_KEY",
            "MACAROON_ROOT_KEY",
            "SATMETER_RATE_LIMITS",
        ]


def test_values_that_can_not_be_read_are_told_by_variable_with_status_2(environment: Callable[..., None]) -> None:
    environment(SATMETER_PORT="x", MACAROON_ROOT_KEY="mistyped-secret")
    for command in ("check", "serve"):
        status, _, err = _run(command)
        assert status == 2
        assert [line.partition(":")[0] for line in err.splitlines()] == ["SATMETER_PORT", "MACAROON_ROOT_KEY"]
        assert "mistyped-secret" not in err


def test_json_that_can_not_be_read_is_told_by_variable(environment: Callable[..., None]) -> None:
    environment(SATMETER_TIERS="{")
    assert _run("check") == (2, "", "SATMETER_TIERS: must be valid JSON\n")


def test_a_flag_out_of_range_is_told_by_the_variable_that_it_sets(environment: Callable[..., None]) -> None:
    environment()
    status, _, err = _run("serve", "--port", "70000")
    assert status == 2
    assert err.startswith("SATMETER_PORT: ")


def test_serve_refuses_a_store_that_does_not_answer(environment: Callable[..., None]) -> None:
    environment()
    status, _, err = _run("serve", "--redis-url", "redis://127.0.0.1:1")
    assert status == 1
    assert err.startswith("REDIS_URL: The store does not answer")


async def test_every_part_that_is_named_but_not_there_is_found(environment: Callable[..., None]) -> None:
    environment()
    found = await _probed(
        REDIS_URL="redis://127.0.0.1:1",
        RAY_ADDRESS="127.0.0.1:1",
        LNBITS_URL=NOBODY,
        LNBITS_INVOICE_KEY="key",
        ANTHROPIC_BASE_URL=NOBODY,
        ANTHROPIC_API_KEY="key",
    )
    assert found == ["REDIS_URL", "RAY_ADDRESS", "LNBITS_URL", "ANTHROPIC_BASE_URL"]


async def test_keys_that_are_not_accepted_are_found(environment: Callable[..., None]) -> None:
    environment()
    async with _answering(lambda _path, key: 200 if key == "right" else 401) as url:
        lnbits = {"LNBITS_URL": url, "LNBITS_INVOICE_KEY": "right", "LNBITS_ADMIN_KEY": "right"}
        anthropic = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "right"}
        assert await _probed(**lnbits, **anthropic) == []
        assert await _probed(**lnbits | {"LNBITS_INVOICE_KEY": "wrong"}) == ["LNBITS_INVOICE_KEY"]
        assert await _probed(**lnbits | {"LNBITS_ADMIN_KEY": "wrong"}) == ["LNBITS_ADMIN_KEY"]
        assert await _probed(**anthropic | {"ANTHROPIC_API_KEY": "wrong"}) == ["ANTHROPIC_API_KEY"]


async def test_a_model_that_the_provider_does_not_know_is_found(environment: Callable[..., None]) -> None:
    environment()
    async with _answering(lambda path, _key: 200 if path == "/v1/models/known" else 404) as url:
        settings = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "key", "EVAL_MODEL": "known", "WORK_MODEL": "other"}
        assert await _probed(**settings) == ["WORK_MODEL"]


async def test_an_address_where_something_else_answers_is_found(environment: Callable[..., None]) -> None:
    environment()
    async with _answering(lambda _path, _key: 404) as url:
        assert await _probed(LNBITS_URL=url, LNBITS_INVOICE_KEY="key") == ["LNBITS_URL"]


async def test_a_store_must_keep_its_file_in_production(
    environment: Callable[..., None], store_url: str, redis: Redis
) -> None:
    environment()
    environment(REDIS_URL=store_url, SATMETER_ENV="production")
    settings = Settings()
    assert await store_problems(settings) == []
    await redis.config_set("appendonly", "no")
    try:
        (problem,) = await store_problems(settings)
    finally:
        await redis.config_set("appendonly", "yes")
    assert "appendonly yes" in problem.message


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"redis_version": "6.2.14"}, "version 6.2.14"),
        ({"role": "slave"}, "replica"),
        ({"aof_enabled": 0}, "append-only"),
        ({"maxmemory": 1, "maxmemory_policy": "allkeys-lru"}, "noeviction"),
    ],
)
def test_a_store_unfit_to_keep_money_is_found(change: dict[str, Any], word: str) -> None:
    assert unfit_store(FIT, production=True) == []
    (problem,) = unfit_store(FIT | change, production=True)
    assert word in problem.message


def test_flags_count_more_than_the_environment_and_serve_returns_its_status(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Settings] = []

    def run(settings: Settings) -> int:
        served.append(settings)
        return 3

    # In place of the module that loads Ray.
    monkeypatch.setitem(sys.modules, "satmeter.scripts.serve", SimpleNamespace(run=run))
    environment(SATMETER_PORT="9000", SATMETER_HOST="::1", SATMETER_WORKERS="2")
    status, _, _ = _run("serve", "--port", "0", "--data-dir", "/d", "--ray-address", "auto", "--workers", "4")
    assert status == 3
    (settings,) = served
    assert (settings.host, settings.port, settings.workers) == ("::1", 0, 4)
    assert (str(settings.data_dir), settings.ray_address) == ("/d", "auto")


def test_the_version_is_told() -> None:
    assert _run("version") == (0, "0.1.0\n", "")


def test_a_report_that_could_not_be_written_is_refused_before_the_audit(
    environment: Callable[..., None], tmp_path: Path
) -> None:
    environment(REDIS_URL="redis://127.0.0.1:1")
    status, _, err = _run("audit", "--json", str(tmp_path / "nowhere" / "report.json"))
    assert (status, err.splitlines()) == (
        2,
        [f"{tmp_path}/nowhere/report.json can't be written: name a file in a directory that exists and is yours."],
    )

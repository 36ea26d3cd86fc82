"""The command line: it says what is wrong with a configuration, by the name of the variable, and how to mend it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
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
from satmeter.scripts.preflight.probes import probe
from satmeter.scripts.preflight.settings_checks import problems
from satmeter.scripts.preflight.store_checks import store_problems, unfit_store
from satmeter.scripts.preflight.transport_checks import may_carry_keys
from tests.helpers.http.fronts import signed_invoice

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


def _new_invoice(amount_sats: int) -> dict[str, Any]:
    """An invoice as LNbits shows it."""
    made = signed_invoice(amount_sats * 1_000, int(time.time()))
    return {
        "payment_hash": made.payment_hash,
        "amount": amount_sats * 1_000,
        "status": "pending",
        "bolt11": made.payment_request,
    }


@asynccontextmanager
async def _answering(status: Callable[[str, str], int]) -> AsyncIterator[str]:
    """An HTTP server that answers with the status for a path and the key that came with it; yields its address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        keys = [line.partition(": ")[2] for line in head if line.lower().startswith("x-api-key: ")]
        path = head[0].split()[1]
        code = status(path, keys[0])
        # What LNbits shows to an admin key: its wallet, a list of payments, one of them, and a payout's reserve.
        shown: Any = {"id": "w", "balance": 0, "paid": False, "fee_reserve": 2_000}
        shown["details"] = {"payment_hash": "aa", "amount": 1_000, "status": "pending"}
        body = json.dumps([{"payment_hash": "aa"}] if path.endswith("?limit=1") else shown)
        if head[0].startswith("POST") and code == 200:
            sizes = [int(line[16:]) for line in head if line.lower().startswith("content-length: ")]
            ordered = json.loads(await reader.readexactly(sizes[0]))
            code, body = 201, json.dumps(_new_invoice(ordered.get("amount", 1)))
        length = f"Content-Length: {len(body)}"
        writer.write(f"HTTP/1.1 {code} Whatever\r\n{length}\r\nConnection: close\r\n\r\n{body}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _probed(**settings: Any) -> list[str]:
    return [problem.variable for problem in (await probe(Settings(**settings))).problems]


def _run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.stdout, result.stderr


def _words(err: str) -> list[str]:
    """The words of each line: `serve` writes entries of a log where no terminal is."""
    return [json.loads(line)["hint"] if line.startswith("{") else line for line in err.splitlines()]


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
        assert [line.partition(":")[0] for line in _words(err)] == [
            "LNBITS_URL",
            "ANTHROPIC_API_KEY",
            "SATMETER_RATE_LIMITS",
            "MACAROON_ROOT_KEY",
            "OPERATOR_TOKEN",
        ]


def test_values_that_can_not_be_read_are_told_by_variable(environment: Callable[..., None]) -> None:
    environment(SATMETER_PORT="x", MACAROON_ROOT_KEY="mistyped-secret")
    for command, expected in (("check", 1), ("serve", 2)):
        status, _, err = _run(command)
        assert status == expected
        assert [line.partition(":")[0] for line in _words(err)] == ["SATMETER_PORT", "MACAROON_ROOT_KEY"]
        assert "mistyped-secret" not in err


def test_all_kinds_of_problems_are_told_at_once(environment: Callable[..., None]) -> None:
    environment(
        SATMETER_PORT="x",
        SATMETER_TIERS="{",
        SATMETER_PROT="9000",
        SATMETER_ENV="production",
        LNBITS_URL="foo",
        REDIS_URL="redis://127.0.0.1:1",
    )
    status, out, err = _run("check")
    assert status == 1
    places = [line.partition(":")[0] for line in err.splitlines() if not line.startswith(("Asking", "  "))]
    assert places == [
        "SATMETER_TIERS", "SATMETER_PORT", "SATMETER_PROT", "LNBITS_INVOICE_KEY", "LNBITS_URL", "LNBITS_ADMIN_KEY",
        "ANTHROPIC_API_KEY", "MACAROON_ROOT_KEY", "OPERATOR_TOKEN", "REDIS_URL",
    ]  # fmt: skip
    assert "SATMETER_PROT: There is no such setting: did you mean SATMETER_PORT?" in err
    assert "Lightning  wrong  LNbits at foo" in out


def test_a_part_that_is_asked_is_told_when_it_has_answered(environment: Callable[..., None]) -> None:
    environment(REDIS_URL="redis://127.0.0.1:1", RAY_ADDRESS="127.0.0.1:1")
    lines = _run("check")[2].splitlines()
    assert lines[0] == "Asking the parts, for at most 12 s ..."
    assert sorted(line.partition(" (")[0] for line in lines[1:3]) == ["  Ray: see below", "  the store: see below"]


def test_serve_names_a_mistyped_setting_and_goes_on(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "satmeter.scripts.server.supervisor", SimpleNamespace(run=lambda *_: 0))
    environment(SATMETER_RATELIMITS="off")
    status, out, err = _run("serve")
    assert (status, out) == (0, "")
    assert _words(err) == ["SATMETER_RATELIMITS: There is no such setting: did you mean SATMETER_RATE_LIMITS?"]


def test_json_that_can_not_be_read_is_told_by_variable(environment: Callable[..., None]) -> None:
    environment(SATMETER_TIERS="{")
    status, _, err = _run("check")
    assert (status, err) == (1, "SATMETER_TIERS: Must be valid JSON.\n")


def test_a_flag_out_of_range_is_told_by_the_variable_that_it_sets(environment: Callable[..., None]) -> None:
    environment()
    status, _, err = _run("serve", "--port", "70000")
    assert status == 2
    assert _words(err)[0].startswith("SATMETER_PORT: ")


def test_serve_refuses_a_store_that_does_not_answer(environment: Callable[..., None]) -> None:
    environment()
    status, _, err = _run("serve", "--redis-url", "redis://127.0.0.1:1")
    assert status == 1
    assert _words(err)[0].startswith("REDIS_URL: The store does not answer")


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


@pytest.mark.parametrize("status", [301, 404, 500])
async def test_a_provider_that_answers_otherwise_is_found(environment: Callable[..., None], status: int) -> None:
    environment()
    async with _answering(lambda _path, _key: status) as url:
        found = await _probed(ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY="key")
        assert found == (["EVAL_MODEL", "WORK_MODEL"] if status == 404 else ["ANTHROPIC_BASE_URL"])


async def test_no_key_is_sent_by_plain_http_beyond_this_machine(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> int:
        pytest.fail("a key was sent")

    monkeypatch.setattr("satmeter.scripts.preflight.probes._status", never)
    environment()
    environment(
        LNBITS_URL="http://lnbits.example:5000",
        ANTHROPIC_BASE_URL="http://10.0.0.7/",
        LNBITS_INVOICE_KEY="key",
        LNBITS_ADMIN_KEY="key",
        ANTHROPIC_API_KEY="key",
    )
    settings = Settings()
    found = problems(settings)
    assert [problem.variable for problem in found] == ["LNBITS_URL", "ANTHROPIC_BASE_URL"]
    assert all("in the clear" in problem.message for problem in found)
    assert (await probe(settings, {problem.variable for problem in found})).problems == []
    allowed = settings.model_copy(update={"plain_http_allow": ("lnbits.example", "10.0.0.7")})
    assert problems(allowed) == []


async def test_a_part_that_never_answers_is_not_waited_for_beyond_its_time(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.scripts.preflight.probes._PART_WITHIN_S", 0.05)
    environment()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        environment(REDIS_URL=url)
        (problem,) = (await probe(Settings())).problems
    assert problem.variable == "REDIS_URL" and "No answer within" in problem.message


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
        ({"aof_last_write_status": "err"}, "failed to write"),
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

    def run(settings: Settings, _launcher: object, _accept_loss: bool) -> int:
        served.append(settings)
        return 3

    # In place of the module that loads Ray.
    monkeypatch.setitem(sys.modules, "satmeter.scripts.server.supervisor", SimpleNamespace(run=run))
    environment(SATMETER_PORT="9000", SATMETER_HOST="::1", SATMETER_WORKERS="2")
    status, _, _ = _run("serve", "--port", "0", "--data-dir", "/d", "--ray-address", "auto", "--workers", "4")
    assert status == 3
    (settings,) = served
    assert (settings.host, settings.port, settings.workers) == ("::1", 0, 4)
    assert (str(settings.data_dir), settings.ray_address) == ("/d", "auto")


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://lnbits.example", True),
        ("http://127.0.0.1:5000", True),
        ("http://127.8.8.8", True),
        ("http://LOCALHOST:5000", True),
        ("http://[::1]:5000", True),
        ("http://[fe80::1]", False),
        ("http://192.168.1.5:5000", False),
        ("http://lnbits", False),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost@example.org", False),
    ],
)
def test_keys_go_in_the_clear_to_this_machine_alone(url: str, safe: bool) -> None:
    assert may_carry_keys(url) is safe


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("lnbits.example", True),
        ("LNBITS.example:5000", True),
        ("evil-lnbits.example", False),
        ("x.lnbits.example", False),
        ("lnbits.example.org", False),
        ("lnbits", False),
        ("110.0.0.7", False),
        ("10.0.0.70", False),
    ],
)
def test_keys_go_in_the_clear_to_the_hosts_that_are_named_and_to_no_others(host: str, safe: bool) -> None:
    assert may_carry_keys(f"http://{host}", ("lnbits.example", "10.0.0.7")) is safe


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

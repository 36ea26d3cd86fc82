"""`satmeter mcp` with the official client over standard input and output."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.helpers.patience import PATIENCE_S, PROGRAM_S
from tests.helpers.served import Served

TOOLS = {"ask", "quote_job", "buy_job", "get_job", "balance", "ledger", "prices", "close_session"}


@asynccontextmanager
async def agent(command: str, environment: dict[str, str], url: str, *words: str) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(command=command, args=["mcp", "--server", url, *words], env=environment)
    async with Client(parameters, read_timeout_seconds=PATIENCE_S) as client:
        yield client


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def refused(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


async def test_an_agent_asks_buys_and_gets_the_rest_back(
    server: Served, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    async with agent(command, environment, server.url, "--budget-sats", "2000", "--call-max-sats", "900") as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS and all(tool.description for tool in tools)
        assert (await call(client, "balance"))["session"] is None
        asked = await call(client, "ask", request="Name three uses of a sextant.", max_tokens=100, key="a")
        assert asked["state"] == "complete" and asked["answer"] and asked["cost_msat"] > 0
        assert (await call(client, "ask", request="Name three uses of a sextant.", max_tokens=100, key="a")) == asked
        assert asked["budget_left_sats"] == 1_500
        quoted = await call(client, "quote_job", request="Say hello", key="j")
        assert quoted["state"] == "awaiting_work_payment" and quoted["price_sats"] > 0
        assert (await call(client, "quote_job", request="Say hello", key="j"))["job_id"] == quoted["job_id"]
        assert "1 are allowed" in await refused(client, "buy_job", job_id=quoted["job_id"], max_sats=1)
        bought = await call(client, "buy_job", job_id=quoted["job_id"], max_sats=quoted["price_sats"])
        assert bought["state"] == "complete" and bought["result"]
        again = await call(client, "buy_job", job_id=quoted["job_id"], max_sats=quoted["price_sats"])
        assert again["budget_left_sats"] == bought["budget_left_sats"]
        assert (await call(client, "get_job", job_id=quoted["job_id"]))["result"] == bought["result"]
        assert (await call(client, "ledger"))["entries"][0]["kind"] == "deposit"
        assert (await call(client, "prices"))["models"]
        closed = await call(client, "close_session")
        assert closed["session"]["refund"]["state"] == "paid"
    (file,) = (tmp_path / "satmeter").glob("*.json")
    assert json.loads(file.read_text())["session"] is None


async def test_an_unknown_argument_is_refused_by_name_and_costs_nothing(
    server: Served, command: str, environment: dict[str, str]
) -> None:
    async with agent(command, environment, server.url) as client:
        assert "maxTokens" in await refused(client, "ask", request="Name three uses of a sextant.", maxTokens=5)
        assert (await call(client, "balance"))["session"] is None


async def test_the_owner_s_budget_and_limit_hold_also_for_the_next_process(
    server: Served, command: str, environment: dict[str, str]
) -> None:
    words = ("--budget-sats", "100", "--deposit", "100", "--call-max-sats", "20")
    async with agent(command, environment, server.url, *words) as client:
        assert (await call(client, "ask", request="hello", max_tokens=50))["budget_left_sats"] == 0
    async with agent(command, environment, server.url, *words) as client:
        text = await refused(client, "quote_job", request="Say hello")
        assert "0 are left of the budget of 100" in text and "Only the owner" in text
        assert "caveat_violated" in await refused(client, "ask", request="x" * 50_000)
        assert "not_found" in await refused(client, "get_job", job_id="job_none")


async def test_no_tool_shows_a_secret(
    server: Served, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    async with agent(command, environment, server.url) as client:
        shown = [await call(client, "ask", request="hello"), await call(client, "balance")]
        shown += [await call(client, "quote_job", request="Say hello"), await call(client, "ledger")]
    (file,) = (tmp_path / "satmeter").glob("*.json")
    macaroon = json.loads(file.read_text())["session"]["macaroon"]
    assert macaroon not in str(shown) and "lnbc" not in str(shown)


async def test_a_server_that_is_down_is_a_tool_error(command: str, environment: dict[str, str]) -> None:
    async with agent(command, {**environment, "SATMETER_WALLET": "stub"}, "http://127.0.0.1:9") as client:
        assert "gives no answer" in await refused(client, "prices")


def _start(command: str, environment: dict[str, str], url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [command, "mcp", "--server", url],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _hello(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


@pytest.mark.parametrize("how", ["end of input", "SIGTERM"])
def test_it_ends_cleanly(server: Served, command: str, environment: dict[str, str], how: str) -> None:
    process = _start(command, environment, server.url)
    assert _hello(process)["result"]["serverInfo"]["name"] == "satmeter"
    if how == "SIGTERM":
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, b"", b"")


def _call(process: subprocess.Popen[bytes], name: str, **arguments: Any) -> None:
    params = {"name": name, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
    assert process.stdin is not None
    process.stdin.write(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
    process.stdin.write(json.dumps(message).encode() + b"\n")


def test_what_was_asked_before_the_end_of_the_input_is_answered(
    server: Served, command: str, environment: dict[str, str]
) -> None:
    process = _start(command, environment, server.url)
    _hello(process)
    _call(process, "ask", request="Name three uses of a sextant.", max_tokens=100)
    out, err = process.communicate(timeout=PROGRAM_S)
    answer = json.loads(out)
    assert (process.returncode, err, answer["id"]) == (0, b"", 2)
    assert answer["result"]["structuredContent"]["state"] == "complete"


def test_sigterm_after_the_end_of_the_input_ends_it_at_once(command: str, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE_S)
        process = _start(command, environment, f"http://127.0.0.1:{silent.getsockname()[1]}")
        _hello(process)
        _call(process, "prices")
        assert process.stdin is not None
        process.stdin.close()
        with silent.accept()[0]:
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def test_what_is_wrong_with_its_flags_is_said_at_once(command: str, environment: dict[str, str]) -> None:
    for words, said in ((["--wallet", "terminal"], "needs a person"), (["--wallet", "lnbits"], "admin key")):
        found = subprocess.run(
            [command, "mcp", *words], env=environment, capture_output=True, text=True, timeout=PROGRAM_S, check=False
        )
        assert found.returncode == 2 and said in found.stderr

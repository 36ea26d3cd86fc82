"""`scripts/bench`: how fast the server is on this machine, each figure beside an empty endpoint in the same run.

A benchmark, not a test: nothing here passes or fails. It starts a server of its own with the stub node and the stub
model at no latency, a store that fsyncs every write, and loads it over HTTP from one process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from .bench_client import Connection, Measured, Work, measure
from .bench_sessions import asking, open_sessions, opening
from .processes import descendants

_CONNECTIONS: Final = (1, 64, 256)
_READY_WITHIN_S: Final = 60.0
_IDLE: Final = 2_000
_SESSIONS: Final = 500
# What a session can spend in a whole run.
_DEPOSIT_SATS: Final = 100_000
_ASK: Final = {"request": "Name three uses of a sextant.", "maxTokens": 200}
_EMPTY_APP: Final = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def empty(request):
    return JSONResponse({})

uvicorn.run(Starlette(routes=[Route("/", empty)]), port=int(sys.argv[1]), log_config=None, access_log=False,
            loop="uvloop", http="httptools")
"""


def main(duration_s: float = typer.Option(5.0, "--duration", help="Seconds for each figure.")) -> None:
    """Prints the table."""
    uvloop.run(_bench(Console(), duration_s))


async def _bench(console: Console, duration_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="sm-bench-") as directory:
        started_s = time.perf_counter()
        server, port = _serve(Path(directory) / "ray")
        empty, empty_port = _empty()
        local, local_port = _local(Path(directory) / "local")
        try:
            await _wait_until_ready(port, "/readyz")
            console.print(f"start-up: {time.perf_counter() - started_s:.1f} s to the first 200 of /readyz")
            await _wait_until_ready(empty_port, "/")
            await _wait_until_ready(local_port, "/healthz")
            console.print(await _table(_Ports(port, local_port, empty_port), duration_s))
            await _memory(console, server.pid, port)
        finally:
            for process in (server, empty, local):
                process.send_signal(signal.SIGTERM)
                process.wait(30)


def _serve(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    port = _free_port()
    environment = {**os.environ, "SATMETER_RATE_LIMITS": "off", "SATMETER_LOG_LEVEL": "error"}
    environment.setdefault("BTC_PRICE_URL", "http://127.0.0.1:9/")
    satmeter = str(Path(sys.executable).with_name("satmeter"))
    command = [satmeter, "serve", "--port", str(port), "--data-dir", str(directory)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL), port


def _empty() -> tuple[subprocess.Popen[bytes], int]:
    port = _free_port()
    return subprocess.Popen([sys.executable, "-c", _EMPTY_APP, str(port)]), port


def _local(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    port = _free_port()
    command = [sys.executable, "-m", "satmeter.scripts.bench_local", str(port), str(directory)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), port


class _Ports(NamedTuple):
    ray: int
    local: int
    empty: int


async def _table(ports: _Ports, duration_s: float) -> Table:
    port = ports.ray
    job_id = await _new_job(Connection(port))
    holders = await open_sessions(port, _SESSIONS, _DEPOSIT_SATS)
    local_holders = await open_sessions(ports.local, _SESSIONS, _DEPOSIT_SATS)

    async def empty(connection: Connection) -> None:
        await connection.request("GET", "/")

    async def get_job(connection: Connection) -> None:
        status, body = await connection.request("GET", f"/jobs/{job_id}")
        assert status == 200, body

    table = Table("what", "connections", "per s", "of empty", "p50 ms", "p99 ms")
    for connections in _CONNECTIONS:
        baseline = await measure(ports.empty, connections, duration_s, empty)
        _add(table, "empty Starlette endpoint", connections, baseline, baseline)
        for what, at, by in (
            ("metered request", port, holders),
            ("metered request, host in the front's process", ports.local, local_holders),
        ):
            measured = await measure(at, connections, duration_s, asking(by, _ASK))
            _add(table, what, connections, measured, baseline)
        opened = await measure(port, connections, duration_s, opening(_DEPOSIT_SATS))
        _add(table, "POST /sessions", connections, opened, baseline)
        _add(table, "GET /jobs/{id}", connections, await measure(port, connections, duration_s, get_job), baseline)
        whole = await measure(port, connections, duration_s, _whole_job(port))
        _add(table, "job, creation to completion", connections, whole, baseline)
    return table


def _add(table: Table, what: str, connections: int, measured: Measured, baseline: Measured) -> None:
    table.add_row(
        what,
        str(connections),
        f"{measured.per_s:,.0f}",
        f"{measured.per_s / baseline.per_s:.2f}",
        f"{measured.percentile_ms(50):.1f}",
        f"{measured.percentile_ms(99):.1f}",
    )


def _whole_job(port: int) -> Work:
    async def whole(connection: Connection) -> None:
        job_id = await _new_job(connection)
        watching = Connection(port)
        async for status in watching.events(f"/jobs/{job_id}/events"):
            if status["state"] == "complete":
                break
            if status["state"] == "awaiting_eval_payment":
                await _pay(connection, status["evalInvoice"]["paymentHash"])
            elif status["state"] == "awaiting_work_payment":
                await _pay(connection, status["workInvoice"]["paymentHash"])
        await watching.close()

    return whole


async def _new_job(connection: Connection) -> str:
    status, body = await connection.request("POST", "/jobs", {"request": "Name three uses of a sextant."})
    assert status == 201, body
    job_id: str = msgspec.json.decode(body)["jobId"]
    return job_id


async def _pay(connection: Connection, payment_hash: str) -> None:
    status, body = await connection.request("POST", f"/dev/stub/pay/{payment_hash}")
    assert status == 200, body


async def _memory(console: Console, supervisor_pid: int, port: int) -> None:
    async def jobs() -> None:
        connections = [Connection(port) for _ in range(32)]
        for _ in range(_IDLE // len(connections)):
            await asyncio.gather(*(_new_job(connection) for connection in connections))

    async def sessions() -> None:
        holders = await open_sessions(port, _IDLE, _DEPOSIT_SATS)
        ask = asking(holders, _ASK)
        # New ones: those of before would have been idle for longer than the server keeps them.
        connections = [Connection(port) for _ in range(32)]
        for _ in range(_IDLE // len(connections)):
            await asyncio.gather(*(ask(connection) for connection in connections))

    before_kb = _hosts_kb(supervisor_pid)
    await jobs()
    between_kb = _hosts_kb(supervisor_pid)
    await sessions()
    after_kb = _hosts_kb(supervisor_pid)
    front_kb = max(kb for name, kb in _resident_kb(supervisor_pid) if "scripts.front" in name)
    console.print(
        f"memory: front {front_kb / 1_024:.0f} MB, all hosts {after_kb / 1_024:.0f} MB, an idle job "
        f"{(between_kb - before_kb) / _IDLE:.1f} kB and a live session that has asked once "
        f"{(after_kb - between_kb) / _IDLE:.1f} kB in its host"
    )


def _hosts_kb(supervisor_pid: int) -> int:
    return sum(kb for name, kb in _resident_kb(supervisor_pid) if "HostShell" in name)


def _resident_kb(supervisor_pid: int) -> list[tuple[str, int]]:
    """Command line and resident memory of all the server's processes."""
    return [(process.command, process.resident_kb) for process in descendants(supervisor_pid).values()]


async def _wait_until_ready(port: int, path: str) -> None:
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline_s:
        try:
            connection = Connection(port)
            status, _ = await connection.request("GET", path)
            await connection.close()
            if status == 200:
                return
        except (ConnectionError, OSError):
            pass
        await asyncio.sleep(0.02)
    raise SystemExit(f"nothing became ready on port {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    typer.run(main)

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
from typing import Final

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from .bench_client import Connection, Measured, Work, measure
from .processes import descendants

_CONNECTIONS: Final = (1, 64)
_READY_WITHIN_S: Final = 60.0
_IDLE_JOBS: Final = 2_000
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
        server, port = _serve(Path(directory))
        empty, empty_port = _empty()
        try:
            await _wait_until_ready(port, "/readyz")
            console.print(f"start-up: {time.perf_counter() - started_s:.1f} s to the first 200 of /readyz")
            await _wait_until_ready(empty_port, "/")
            console.print(await _table(port, empty_port, duration_s))
            await _memory(console, server.pid, port)
        finally:
            for process in (server, empty):
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


async def _table(port: int, empty_port: int, duration_s: float) -> Table:
    job_id = await _new_job(Connection(port))

    async def empty(connection: Connection) -> None:
        await connection.request("GET", "/")

    async def get_job(connection: Connection) -> None:
        status, body = await connection.request("GET", f"/jobs/{job_id}")
        assert status == 200, body

    table = Table("what", "connections", "per s", "of empty", "p50 ms", "p99 ms")
    for connections in _CONNECTIONS:
        baseline = await measure(empty_port, connections, duration_s, empty)
        _add(table, "empty Starlette endpoint", connections, baseline, baseline)
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
    before_kb = _resident_kb(supervisor_pid)
    connections = [Connection(port) for _ in range(32)]
    for _ in range(_IDLE_JOBS // len(connections)):
        await asyncio.gather(*(_new_job(connection) for connection in connections))
    after_kb = _resident_kb(supervisor_pid)
    hosts_kb = [kb for name, kb in after_kb if "HostShell" in name]
    grown_kb = sum(hosts_kb) - sum(kb for name, kb in before_kb if "HostShell" in name)
    front_kb = next(kb for name, kb in after_kb if "scripts.front" in name)
    console.print(
        f"memory: front {front_kb / 1_024:.0f} MB, a host {max(hosts_kb) / 1_024:.0f} MB, "
        f"an idle job {grown_kb / _IDLE_JOBS:.1f} kB in its host"
    )


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

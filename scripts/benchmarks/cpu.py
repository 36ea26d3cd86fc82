"""CPU time that a request costs each process: on a busy machine the figure that says whether a change pays.

    python -m satmeter.scripts.benchmarks.cpu [--requests 10000] [--connections 64]

Like `scripts/bench` it starts servers of its own. It reads CPU times in /proc, so it needs Linux.
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
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from ..processes import descendants
from .measuring import Work, connect
from .sessions import asking, open_sessions, opening

_READY_WITHIN_S: Final = 60.0
_SESSIONS: Final = 500
_DEPOSIT_SATS: Final = 100_000
_ASK: Final = {"request": "Name three uses of a sextant.", "maxTokens": 200}
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
# Text in a command line, and the name of its process in the table. The first that fits counts.
_NAMES: Final = (
    ("server.front", "front"),
    ("benchmarks.local", "front and host"),
    ("HostActor", "hosts"),
    ("TreasuryActor", "treasury"),
    ("valkey-server", "store"),
    ("raylet", "raylet"),
    ("gcs_server", "gcs"),
)


def main(
    requests: int = typer.Option(10_000, "--requests", help="Requests for each line; a tenth of it come before."),
    connections: int = typer.Option(64, "--connections", help="So many at once."),
) -> None:
    """Print CPU milliseconds for each request, by process."""
    uvloop.run(_bench(Console(), requests, connections))


async def _bench(console: Console, requests: int, connections: int) -> None:
    with tempfile.TemporaryDirectory(prefix="sm-bench-") as directory:
        for name, command in (
            ("over Ray", [str(Path(sys.executable).with_name("satmeter")), "serve", "--port", "{port}", "--data-dir"]),
            ("in the front's process", [sys.executable, "-m", "satmeter.scripts.benchmarks.local", "{port}"]),
        ):
            server, port = _start(command, str(Path(directory) / name.rpartition(" ")[2]))
            try:
                await _wait_until_served(port)
                holders = await open_sessions(port, _SESSIONS, _DEPOSIT_SATS)
                for what, work in (("metered request", asking(holders, _ASK)), ("POST /sessions", opening(1_000))):
                    await _run(port, connections, requests // 10, work)
                    console.print(await _row(server.pid, port, connections, requests, work, f"{what}, {name}"))
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(30)


def _start(command: Sequence[str], data_dir: str) -> tuple[subprocess.Popen[bytes], int]:
    port = _free_port()
    words = [word.format(port=port) for word in command] + [data_dir]
    environment = {**os.environ, "SATMETER_RATE_LIMITS": "off", "SATMETER_LOG_LEVEL": "error"}
    environment.setdefault("BTC_PRICE_URL", "http://127.0.0.1:9/")
    return subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL), port


async def _row(pid: int, port: int, connections: int, requests: int, work: Work, what: str) -> Table:
    before, client_before_s = cpu_s(pid), time.process_time()
    elapsed_s = await _run(port, connections, requests, work)
    after, client_s = cpu_s(pid), time.process_time() - client_before_s
    spent_s = {name: after[name] - before.get(name, 0) for name in after}
    table = Table(title=f"{what}: {requests / elapsed_s:,.0f} per s at {connections} connections", title_justify="left")
    table.add_column("process")
    table.add_column("CPU ms per request", justify="right")
    for name, seconds in sorted(spent_s.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{seconds / requests * 1_000:.3f}")
    table.add_row("all but the client", f"{sum(spent_s.values()) / requests * 1_000:.3f}")
    table.add_row("client", f"{client_s / requests * 1_000:.3f}")
    return table


async def _run(port: int, connections: int, requests: int, work: Work) -> float:
    """Make this many requests over this many connections; return the seconds that they took."""
    numbers = iter(range(requests))

    async def worker() -> None:
        connection = connect(port)
        for _ in numbers:
            await work(connection)
        connection.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return time.perf_counter() - started_s


def cpu_s(root_pid: int) -> Mapping[str, float]:
    """Return the CPU seconds until now of a server's processes, user and system, by what they are."""
    spent: dict[str, float] = defaultdict(float)
    commands = {pid: process.command for pid, process in descendants(root_pid).items()}
    commands[root_pid] = " ".join(_read(root_pid, "cmdline").split("\0"))
    for pid, command in commands.items():
        # The name in parentheses may hold spaces; after it, user and system time are the 12th and 13th field.
        fields = _read(pid, "stat").rpartition(")")[2].split()
        if fields:
            name = next((name for part, name in _NAMES if part in command), "others")
            spent[name] += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return spent


def cpu_ms(before: Mapping[str, float], after: Mapping[str, float], count: int) -> dict[str, float]:
    """Return the CPU milliseconds for each of `count` calls, by process and of all."""
    spent_s = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    shown = {f"{name}_ms": spent_s.get(name, 0.0) for name in ("front", "hosts", "store")}
    return {name: seconds / count * 1_000 for name, seconds in {**shown, "all_ms": sum(spent_s.values())}.items()}


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


async def _wait_until_served(port: int) -> None:
    deadline_s = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline_s:
        try:
            connection = connect(port)
            status, _, _ = await connection.request("GET", "/readyz")
            connection.close()
            if status == 200:
                return
        except (ConnectionError, OSError):
            pass
        await asyncio.sleep(0.05)
    raise SystemExit(f"nothing became ready on port {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    typer.run(main)

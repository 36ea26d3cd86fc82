"""Servers that `scripts/bench` measures: each a child process, started, awaited, and ended with all below it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from ...config.settings import Settings
from ..processes import Process, all_processes, descendants, end
from .measuring import connect

_READY_WITHIN_S: Final = 120.0
_ENDS_WITHIN_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.02
_LOG_TAIL_BYTES: Final = 2_000
# The price is not asked for on the internet: the address leads to the fallback.
_ENVIRONMENT: Final = {
    "BTC_PRICE_URL": "http://127.0.0.1:9/",
    "SATMETER_RATE_LIMITS": "off",
    "SATMETER_LOG_LEVEL": "error",
}
_EMPTY_APP: Final = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def empty(request):
    return JSONResponse({})

uvicorn.run(Starlette(routes=[Route("/", empty)]), port=int(sys.argv[1]), log_config=None, access_log=False,
            loop="uvloop", http="httptools", server_header=False, proxy_headers=False)
"""


class BenchError(Exception):
    """A reason why a part can't be measured; the text says why, and how to mend it."""


class Child:
    """A server on a port of its own, in a session of its own: Ctrl-C reaches us, and we end it in order."""

    def __init__(self, name: str, command: Sequence[str], port: int, directory: Path, extra: Mapping[str, str]) -> None:
        self.port = port
        self.directory = directory
        self._name = name
        self._log_path = directory.with_suffix(".log")
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **_ENVIRONMENT, **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Id of the child's first process."""
        return self._process.pid

    async def ready(self, path: str) -> float:
        """Wait until this path answers 200; return how many seconds that took. Raises `BenchError`."""
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < _READY_WITHIN_S:
            if self._process.poll() is not None:
                raise BenchError(f"{self._name} ended with {self._process.returncode}: {self._log_tail()}")
            with contextlib.suppress(OSError):
                if await _status(self.port, path) == 200:
                    return time.perf_counter() - began_s
            await asyncio.sleep(_LOOK_EVERY_S)
        raise BenchError(f"{self._name} did not become ready in {_READY_WITHIN_S:.0f} s: {self._log_tail()}")

    def processes(self, name: str) -> dict[int, Process]:
        """Return the child's processes with this in their command line, by pid."""
        return {pid: process for pid, process in descendants(self._process.pid).items() if name in process.command}

    def resident_kb(self, name: str) -> int:
        """Return the memory of the child's processes with this name. Raises `BenchError` when there are none."""
        found = self.processes(name)
        if not found:
            raise BenchError(f"{self._name} has no process {name!r} (any more): {self._log_tail()}")
        return sum(process.resident_kb for process in found.values())

    def end(self) -> None:
        """End the child, and all of its processes that this leaves behind."""
        if self._process.poll() is not None:
            return
        tree = descendants(self._process.pid)
        try:
            self._process.terminate()
            self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._kill()
        except BaseException:
            # After a second Ctrl-C the child is ended at once.
            self._kill()
            raise
        finally:
            left = all_processes()
            end(pid for pid, process in tree.items() if pid in left and left[pid].command == process.command)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(_ENDS_WITHIN_S)

    def _log_tail(self) -> str:
        return self._log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip() or "it said nothing"


def clean_environment() -> None:
    """Take all settings of the server out of the environment: no figure must depend on the shell."""
    names = {str(field.validation_alias) for field in Settings.model_fields.values()}
    for name in list(os.environ):
        if name in names or name.startswith("RAY_"):
            del os.environ[name]


@asynccontextmanager
async def served(directory: Path, **settings: object) -> AsyncIterator[Child]:
    """Run a real `satmeter serve` and yield it when it is ready. `settings`: environment variables."""
    async with served_by(Path(sys.executable).with_name("satmeter"), directory, **settings) as child:
        yield child


@asynccontextmanager
async def served_by(satmeter: Path, directory: Path, **settings: object) -> AsyncIterator[Child]:
    """Run the server of this command, which may be another version's; see `served`."""
    port = free_port()
    command = [str(satmeter), "serve", "--port", str(port), "--data-dir", str(directory)]
    async with running(Child("satmeter serve", command, port, directory, _words(settings)), "/readyz") as child:
        yield child


@asynccontextmanager
async def in_one_process(directory: Path, **settings: object) -> AsyncIterator[Child]:
    """Run the benchmark's own server, front and host in one process, and yield it when it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "satmeter.scripts.benchmarks.local", str(port), str(directory)]
    async with running(Child("local", command, port, directory, _words(settings)), "/healthz") as child:
        yield child


@asynccontextmanager
async def empty(directory: Path) -> AsyncIterator[Child]:
    """Run an empty Starlette endpoint and yield it when it is ready."""
    port = free_port()
    command = [sys.executable, "-c", _EMPTY_APP, str(port)]
    async with running(Child("the empty endpoint", command, port, directory, {}), "/") as child:
        yield child


@asynccontextmanager
async def running(child: Child, path: str) -> AsyncIterator[Child]:
    """Yield the child when this path answers 200, and end it in the end. Raises `BenchError`."""
    try:
        await child.ready(path)
        yield child
    finally:
        child.end()


def free_port() -> int:
    """Return a port of loopback on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _words(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in settings.items()}


async def _status(port: int, path: str) -> int:
    connection = connect(port)
    try:
        status, _, _ = await connection.request("GET", path)
        return status
    finally:
        connection.close()

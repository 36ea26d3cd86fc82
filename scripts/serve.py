"""`satmeter serve`: starts store, actors and fronts on this machine, watches over them, and ends them in order."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import structlog
from rich.console import Console

from ..actors import cluster
from ..config.logging import configure_logging
from ..config.root_key import with_root_key
from ..config.settings import Settings
from .banner import show_banner
from .front import Orders
from .processes import all_processes, descendants, end
from .store import EmbeddedStore, StoreError

# SIGTERM to the end in 15 s at most: fronts, then hosts, then Ray (about 1.5 s), then the store.
_FRONT_ENDS_WITHIN_S: Final = 7.0
_HOST_PATIENCE_S: Final = 3.0
_READY_WITHIN_S: Final = 60.0
_BIND_WITHIN_S: Final = 3.0
_WATCH_EVERY_S: Final = 2.0
_RESTART_PAUSE_S: Final = 0.2
_log = structlog.get_logger(__name__)


T = TypeVar("T")


class StartError(Exception):
    """The server can't start; the text says why and how to mend it."""


class Supervisor:
    """Owns all processes of this machine. Whatever of them dies is started again; when it dies, so do they."""

    def __init__(self, settings: Settings, console: Console) -> None:
        # As the operator gave them: what is filled in at the start is not theirs to read.
        self._asked = self._settings = settings
        self._console = console
        self._stop = asyncio.Event()
        self._store: EmbeddedStore | None = None
        self._ray_dir: Path | None = None
        self._host_ids: list[str] = []
        self._actors: list[Any] | None = None
        self._listeners: list[socket.socket] = []
        self._fronts: list[_FrontProcess] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT. Raises `StartError`, `StoreError`."""
        self._listen_for_signals()
        try:
            await self._start()
            if not self._stop.is_set():
                show_banner(self._console, self._asked, self._port)
            await self._stop.wait()
        finally:
            await self._end()
        return 0

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop.set)

    # Start

    async def _start(self) -> None:
        for text, step in (
            ("Opening the port", self._open_port),
            ("Starting the store", self._start_store),
            ("Starting Ray", self._start_ray),
            ("Starting the actors", self._start_actors),
            ("Starting the front", self._start_fronts),
        ):
            if self._stop.is_set():
                return
            self._console.print(f"{text} …", style="dim", highlight=False)
            await step()
        self._tasks.append(asyncio.create_task(self._watch_actors()))

    async def _open_port(self) -> None:
        """Binds here, so that a front that died leaves its waiting connections to its successor."""
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        shared = sys.platform == "linux" and self._settings.workers > 1
        for _ in range(self._settings.workers if shared else 1):
            listener = socket.socket(family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            await self._bind(listener, host, port)
            listener.listen(2_048)
            listener.set_inheritable(True)
            port = listener.getsockname()[1]
            self._listeners.append(listener)
        self._port: int = port

    async def _bind(self, listener: socket.socket, host: str, port: int) -> None:
        """Binds; tries for a moment, because the fronts of a server that was just killed still hold the port."""
        deadline_s = time.monotonic() + _BIND_WITHIN_S
        while True:
            try:
                return listener.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline_s or self._stop.is_set():
                    listener.close()
                    text = f"Can't listen on {host}:{port}: {error.strerror}. Choose another --port."
                    raise StartError(text) from None
            await asyncio.sleep(_RESTART_PAUSE_S)

    async def _start_store(self) -> None:
        if self._settings.redis_url is None:
            self._store = EmbeddedStore(self._settings.data_dir)
            url = await self._store.start()
            self._tasks.append(asyncio.create_task(self._store.watch()))
            self._settings = self._settings.model_copy(update={"redis_url": url})

    async def _start_ray(self) -> None:
        cpus = os.cpu_count() or 1
        self._host_ids = cluster.host_ids(self._settings.hosts or cpus)
        if self._settings.ray_address is not None:
            self._address = self._settings.ray_address
            cluster.join(self._address)
        else:
            self._ray_dir = _make_ray_dir()
            # In this thread, although it blocks for seconds: Ray's processes end with the thread that started them.
            try:
                self._address = cluster.start_local(self._ray_dir, cpus)
            except SystemExit:
                # Ray answers SIGTERM by itself while it starts.
                self._stop.set()
        self._listen_for_signals()

    async def _start_actors(self) -> None:
        self._actors = await self._unless_stopped(cluster.start_actors(self._settings, self._host_ids))

    async def _start_fronts(self) -> None:
        for index in range(self._settings.workers):
            listener = self._listeners[index % len(self._listeners)]
            orders = Orders(self._settings, self._address, self._host_ids, listener.fileno())
            front = _FrontProcess(orders)
            self._fronts.append(front)
            self._tasks.append(asyncio.create_task(front.keep_running()))
        await self._unless_stopped(self._wait_until_ready())

    async def _wait_until_ready(self) -> None:
        host = self._settings.host if self._settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
        url = f"http://{f'[{host}]' if ':' in host else host}:{self._port}/readyz"
        deadline_s = time.monotonic() + _READY_WITHIN_S
        answer = "no answer"
        async with httpx.AsyncClient(trust_env=False) as client:
            while time.monotonic() < deadline_s:
                try:
                    response = await client.get(url, timeout=5)
                    answer = response.text
                    if response.status_code == httpx.codes.OK:
                        return
                except httpx.HTTPError as error:
                    answer = type(error).__name__
                await asyncio.sleep(0.05)
        raise StartError(f"The server did not become ready within {_READY_WITHIN_S:.0f} s: {answer}")

    async def _unless_stopped(self, work: Awaitable[T]) -> T | None:
        """Waits for the work, or for the signal to stop, whichever comes first; None for the latter."""
        task, stop = asyncio.ensure_future(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stop.cancel()

    async def _watch_actors(self) -> None:
        """Asking is also what sets an actor to work that Ray has restarted."""
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            if silent := await cluster.check_actors(self._host_ids):
                _log.warning("actors don't answer", actors=silent)

    # End

    async def _end(self) -> None:
        await asyncio.gather(*(front.end() for front in self._fronts))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._actors is not None and self._ray_dir is not None:
            await cluster.drain_hosts(self._host_ids, _HOST_PATIENCE_S)
        self._leave_ray()
        if self._ray_dir is not None:
            shutil.rmtree(self._ray_dir, ignore_errors=True)
        if self._store is not None:
            await self._store.stop()
        for listener in self._listeners:
            listener.close()

    def _leave_ray(self) -> None:
        """Ray ends its own processes, but when it was cut off while it started, some of them would stay a minute."""
        if self._ray_dir is None:
            cluster.leave()
            return
        store_pid = self._store.pid if self._store else None
        rays = {pid: process for pid, process in descendants(os.getpid()).items() if pid != store_pid}
        cluster.leave()
        left = all_processes()
        end(pid for pid, process in rays.items() if pid in left and left[pid].command == process.command)


class _FrontProcess:
    """A front as a child process that is started again when it dies."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False

    async def keep_running(self) -> None:
        while not self._ending:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "satmeter.scripts.front",
                stdin=asyncio.subprocess.PIPE,
                pass_fds=[self._orders.socket_fd],
                start_new_session=True,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(pickle.dumps(self._orders))
            await self._process.wait()
            if not self._ending:
                _log.error("a front ended by itself, starting another", exit_status=self._process.returncode)
                await asyncio.sleep(_RESTART_PAUSE_S)

    async def end(self) -> None:
        self._ending = True
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_FRONT_ENDS_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def run(settings: Settings) -> int:
    """Serves with these settings until it is told to end; returns the exit status."""
    console = Console(stderr=True)
    configure_logging(settings.log_level)
    try:
        return asyncio.run(Supervisor(with_root_key(settings), console).run())
    except (StartError, StoreError, ValueError) as error:
        console.print(f"[bold red]satmeter can't start:[/] {error}", highlight=False, soft_wrap=True)
        return 1


def _make_ray_dir() -> Path:
    """A short private directory; those of servers that were killed are cleared away."""
    root = Path("/tmp")  # noqa: S108 - unix socket paths end at 107 bytes, and TMPDIR is long on macOS
    prefix = f"satmeter-{os.getuid()}-"
    for path in root.glob(f"{prefix}*"):
        pid = path.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=root))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

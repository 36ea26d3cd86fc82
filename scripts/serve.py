"""`satmeter serve`: starts store, actors and fronts on this machine, watches over them, and ends them in order."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final, TypeVar

import httpx
import structlog
from rich.console import Console

from ..actors import cluster
from ..actors.adapters.redis_format import NewerStoreError
from ..actors.compose import Parts, build_model_news, build_parts, build_roster, expect_model
from ..actors.domain.provider import ModelFault
from ..actors.model_outage import MODEL
from ..actors.ports import TransientError
from ..actors.roster import Server
from ..config.logging import configure_logging
from ..config.root_key import derive_key, with_root_key
from ..config.settings import Settings
from .banner import show_banner
from .front import Orders
from .front_process import FrontProcess
from .place import KeyMismatchError, Place
from .processes import all_processes, descendants, end
from .ray_dir import make_ray_dir
from .store import EmbeddedStore, StoreError

# SIGTERM to the end in 15 s at most: fronts (7 s), then hosts (3 s), then Ray (about 1.5 s), then the store.
_READY_WITHIN_S: Final = 60.0
_BIND_WITHIN_S: Final = 3.0
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
        self._alone = settings.ray_address is None
        self._status = 0
        self._console = console
        self._model_fault: ModelFault | None = None
        self._stop = asyncio.Event()
        self._store: EmbeddedStore | None = None
        self._ray_dir: Path | None = None
        self._parts: Parts | None = None
        self._place: Place | None = None
        self._listeners: list[socket.socket] = []
        self._fronts: list[FrontProcess] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT. Raises `StartError`, `StoreError`."""
        self._listen_for_signals()
        try:
            await self._start()
            if not self._stop.is_set():
                show_banner(self._console, self._asked, self._port, self._model_fault)
            await self._stop.wait()
        finally:
            await self._end()
        return self._status

    def _lose_node(self) -> None:
        """Without its Ray node there is nothing to serve; whatever started this process can start it anew."""
        self._console.print("[bold red]Ray has ended on this machine:[/] start it, and this server, again.")
        self._status = 1
        self._stop.set()

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
            self._tell(f"{text} …")
            await step()

    def _tell(self, text: str) -> None:
        self._console.print(text, style="dim", highlight=False)

    async def _open_port(self) -> None:
        """Binds here, so that a front that died leaves its waiting connections to its successor."""
        host, port = self._settings.host, self._settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        shared = sys.platform == "linux" and self._settings.workers > 1
        if shared:
            # Sharing is for our own fronts. It would let us in beside another server as well, or the fronts of a dead
            # one, and each of them would get a part of the connections.
            with socket.socket(family) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                await self._bind(alone, host, port)
                port = alone.getsockname()[1]
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
        self._parts = build_parts(self._settings)
        await self._parts.enter()
        if self._alone:
            await expect_model(self._settings, self._parts)

    async def _start_ray(self) -> None:
        assert self._parts is not None
        self._namespace = f"satmeter-{await build_roster(self._parts).deployment()}"
        if not self._alone:
            self._address = str(self._settings.ray_address)
            try:
                cluster.join(self._address, self._namespace, self._settings.ray_node_ip)
            except ConnectionError as error:
                text = (
                    f"Can't join the Ray cluster at {self._address}: run `ray start` on this machine first. ({error})"
                )
                raise StartError(text) from None
        else:
            self._ray_dir = make_ray_dir()
            # In this thread, although it blocks for seconds: Ray's processes end with the thread that started them.
            try:
                self._address = cluster.start_local(self._ray_dir, os.cpu_count() or 1, self._namespace)
            except SystemExit:
                # Ray answers SIGTERM by itself while it starts.
                self._stop.set()
        self._listen_for_signals()

    async def _start_actors(self) -> None:
        assert self._parts is not None
        name = cluster.cluster_name()
        server = Server(
            server_id=secrets.token_hex(8),
            node_id=cluster.this_node(),
            address=f"{self._settings.host}:{self._port}",
            cpus=self._settings.hosts or os.cpu_count() or 1,
            key_digest=derive_key(self._settings, "digest of the key").hex()[:16],
        )
        roster, crew = build_roster(self._parts, name), cluster.RayCrew(self._settings)
        self._place = Place(server, roster, crew, f"host-{name}-", self._lose_node, self._tell)
        await self._unless_stopped(self._place.enter(alone=self._alone))

    async def _start_fronts(self) -> None:
        for index in range(self._settings.workers):
            listener = self._listeners[index % len(self._listeners)]
            store_dir = self._store.directory if self._store else None
            orders = Orders(
                self._settings, self._address, self._namespace, self._settings.ray_node_ip, listener.fileno(), store_dir
            )
            front = FrontProcess(orders)
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
                    if response.status_code == httpx.codes.OK or await self._only_model_is_away(response):
                        return
                except httpx.HTTPError as error:
                    answer = type(error).__name__
                await asyncio.sleep(0.05)
        raise StartError(f"The server did not become ready within {_READY_WITHIN_S:.0f} s: {answer}")

    async def _only_model_is_away(self, response: httpx.Response) -> bool:
        """Whether all is there but a model provider that was asked and does not answer: that is no reason to wait."""
        assert self._parts is not None
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or response.json().get("unreachable") != [MODEL]:
            return False
        now_ms = time.time_ns() // 1_000_000
        outage = (await build_model_news(self._settings, self._parts).current()).outage_at(now_ms)
        self._model_fault = None if outage is None else outage.fault
        return self._model_fault is not None

    async def _unless_stopped(self, work: Awaitable[T]) -> T | None:
        """Waits for the work, or for the signal to stop, whichever comes first; None for the latter."""
        task, stop = asyncio.ensure_future(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stop.cancel()

    # End

    async def _end(self) -> None:
        ending = [front.end() for front in self._fronts]
        if self._place is not None and not self._alone:
            ending.append(self._place.give_away())
        await asyncio.gather(*ending)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._place is not None:
            await self._place.leave(alone=self._alone)
        self._leave_ray()
        if self._ray_dir is not None:
            shutil.rmtree(self._ray_dir, ignore_errors=True)
        if self._parts is not None:
            await self._parts.close()
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


def run(settings: Settings) -> int:
    """Serves with these settings until it is told to end; returns the exit status."""
    console = Console(stderr=True)
    configure_logging(settings.log_level)
    try:
        return asyncio.run(Supervisor(with_root_key(settings), console).run())
    except (StartError, StoreError, KeyMismatchError, NewerStoreError, TransientError, OSError, ValueError) as error:
        console.print(f"[bold red]satmeter can't start:[/] {error}", highlight=False, soft_wrap=True)
        return 1

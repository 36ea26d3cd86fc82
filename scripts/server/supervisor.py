"""Supervisor of `satmeter serve`: starts store, actors and fronts on this machine, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable
from functools import partial
from typing import Final, TextIO

import httpx

from ...actors import cluster
from ...actors.adapters.redis.format import NewerStoreError
from ...actors.adapters.redis.marks import RedisMarks
from ...actors.bootstrap import Parts, build_membership, build_model_news, build_parts, expect_model
from ...actors.cancellation import cancel_and_wait
from ...actors.clock import system_now_ms
from ...actors.domain.provider_faults import ModelFault
from ...actors.model_health.outage import MODEL
from ...actors.placement.membership import Server
from ...actors.ports import TransientError
from ...actors.ray_start import RayStartError
from ...config.held_secrets import Role, only_for
from ...config.log_socket import LOG_SOCKET, log_socket_in
from ...config.logging import is_for_people, log_by, printer
from ...config.private_dir import RAY, make_private_dir
from ...config.root_key import derived_keys, previous_keys, with_root_key
from ...config.settings import Settings
from ..processes import all_processes, descendants, end
from ..store.embedded import EmbeddedStore, StoreError
from ..store.marks import StoreMarks
from .cluster_member import ClusterMember, KeyMismatchError
from .front import Orders
from .front_process import FrontProcess
from .launcher import TRY_AGAIN
from .library_output import RawOutput
from .lifeline import Launcher
from .listeners import open_listeners
from .log_collector import LogCollector
from .metrics_server import MetricsServer
from .operator_console import OperatorConsole
from .ray_thread import RayThread, join_ray, until_ray_answers
from .secret_server import SecretServer
from .start_messages import StartError, busy, few_files, of_os_error, patiently, words_of

# SIGTERM to the end in 15 s at most: fronts (7 s), then hosts (3 s), then Ray (about 1.5 s), then the store.
_READY_WITHIN_S: Final = 60.0
_FRONT_ENDS_MAX: Final = 3
# A server that was killed a moment ago may still be ending.
_LOCK_WITHIN_S: Final = 3.0
_TELL_EVERY_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.05
_LOOK_AGAIN_S: Final = 0.25


class Supervisor:
    """Owner of all processes of this machine. It restarts each that dies; when it dies itself, so do they."""

    def __init__(self, settings: Settings, terminal: TextIO, launcher: Launcher, *, accept_loss: bool = False) -> None:
        # The banner shows the operator's settings, without the values that are filled in at the start.
        self._asked = self._settings = settings
        self._accept_loss = accept_loss
        self._alone = settings.ray_address is None
        self._status = 0
        self._served = False
        self._console = OperatorConsole(terminal, settings)
        self._launcher = launcher
        self._model_fault: ModelFault | None = None
        self._stop = asyncio.Event()
        self._store: EmbeddedStore | None = None
        self._dir = make_private_dir()
        self._ray = RayThread()
        self._logs = LogCollector(
            self._dir / "log.sock", printer(terminal, for_people=is_for_people(terminal, settings))
        )
        self._secrets: SecretServer | None = None
        self._metrics = MetricsServer()
        self._parts: Parts | None = None
        self._marks: StoreMarks | None = None
        self._member: ClusterMember | None = None
        self._listeners: list[socket.socket] = []
        self._fronts: list[FrontProcess] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT. Raises `StartError`, `StoreError`, `RayStartError`."""
        self._listen_for_signals()
        self._launcher.when_told(partial(_set_from_a_thread, self._stop, asyncio.get_running_loop()))
        try:
            await self._logs.open()
            os.environ[LOG_SOCKET] = str(self._dir / "log.sock")
            await self._start()
            if not self._stop.is_set():
                self._served = True
                self._launcher.tell(serving=True)
                self._console.serving(self._asked, self._port, self._model_fault)
            await self._stop.wait()
        finally:
            await self._end()
        return self._status

    def _lose_node(self) -> None:
        """Stop with status 1, as nothing can be served without the Ray node. A service manager can start it again."""
        self._console.node_lost()
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
            self._console.step(f"{text} …")
            await self._unless_stopped(step())

    def _tell_waiting(self, text: str) -> None:
        self._console.step(f"{text}{busy()}")

    async def _open_port(self) -> None:
        """Bind the port in this process, so that a dead front leaves its waiting connections to its successor."""
        if words := few_files():
            self._console.step(words)
        self._listeners = await open_listeners(self._settings.host, self._settings.port, self._settings.workers)
        self._port: int = self._listeners[0].getsockname()[1]

    async def _start_store(self) -> None:
        if self._settings.redis_url is None:
            self._store = EmbeddedStore(self._settings.data_dir, _LOCK_WITHIN_S)
            url = await patiently(self._store.start(), "Starting the store", self._console.step)
            self._tasks.append(asyncio.create_task(self._store.watch()))
            self._settings = self._settings.model_copy(update={"redis_url": url})
        self._parts = build_parts(self._settings)
        marks = StoreMarks(self._settings.data_dir, partial(RedisMarks, self._parts.redis))
        lost = await patiently(marks.enter(accept_loss=self._accept_loss), "Looking at the store", self._console.step)
        if lost is not None:
            self._console.step(f"{lost} It is taken as it is.")
        await patiently(self._parts.enter(), "Opening the store", self._console.step)
        await marks.begin()
        self._marks = marks
        self._tasks.append(asyncio.create_task(marks.keep()))
        if self._alone:
            await expect_model(self._settings, self._parts)

    async def _start_ray(self) -> None:
        assert self._parts is not None
        self._namespace = f"satmeter-{await build_membership(self._parts).deployment()}"
        if self._alone:
            self._address = await patiently(
                self._ray.run(
                    lambda: cluster.start_local(self._dir / RAY, os.cpu_count() or 1, self._namespace),
                ),
                "Starting Ray",
                self._console.step,
            )
        else:
            self._address = str(self._settings.ray_address)
            await until_ray_answers(self._address, self._console.step)
            await join_ray(self._ray, self._settings, self._namespace, self._console.step)
        # Ray has replaced the signal handlers.
        self._listen_for_signals()

    async def _start_actors(self) -> None:
        assert self._parts is not None
        self._secrets = SecretServer(self._settings)
        await self._secrets.open(self._dir, cluster.this_node())
        self._logs.name(log_socket_in(self._dir, cluster.this_node()))
        await self._metrics.open(self._dir, cluster.this_node())
        name = cluster.cluster_name()
        server = Server(
            server_id=secrets.token_hex(8),
            node_id=cluster.this_node(),
            address=f"{self._settings.host}:{self._port}",
            cpus=self._settings.hosts or os.cpu_count() or 1,
            key_digest=derived_keys(self._settings).digest,
            previous_key_digest=previous.digest if (previous := previous_keys(self._settings)) else "",
        )
        membership, processes = build_membership(self._parts, name), cluster.RayProcessManager(self._settings)
        self._member = ClusterMember(
            server, membership, processes, f"host-{name}-", self._lose_node, self._tell_waiting
        )
        await self._member.enter(alone=self._alone)

    async def _start_fronts(self) -> None:
        for index in range(self._settings.workers):
            listener = self._listeners[index % len(self._listeners)]
            store_dir = self._store.directory if self._store else None
            orders = Orders(
                settings=only_for(self._settings, Role.FRONT),
                keys=derived_keys(self._settings),
                previous_keys=previous_keys(self._settings),
                cluster_address=self._address,
                namespace=self._namespace,
                node_ip=self._settings.ray_node_ip,
                socket_fd=listener.fileno(),
                store_dir=store_dir,
            )
            front = FrontProcess(orders)
            self._fronts.append(front)
            self._tasks.append(asyncio.create_task(front.keep_running()))
        await self._until_ready()

    async def _until_ready(self) -> None:
        """Wait until a front is ready, or has reported another trouble for `_READY_WITHIN_S`. Raises `StartError`."""
        host = self._settings.host if self._settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
        url = f"http://{f'[{host}]' if ':' in host else host}:{self._port}/readyz"
        answered_s, told_s, answer = None, time.monotonic(), "it does not answer yet."
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    response = await client.get(url, timeout=5)
                    if response.status_code == httpx.codes.OK or await self._only_model_is_away(response):
                        return
                    answered_s, answer = answered_s or time.monotonic(), words_of(response.text)
                except httpx.HTTPError:
                    pass
                if any(front.ends >= _FRONT_ENDS_MAX for front in self._fronts):
                    raise StartError(f"The front ended by itself {_FRONT_ENDS_MAX} times while it started.")
                now_s = time.monotonic()
                if answered_s is not None and now_s - answered_s > _READY_WITHIN_S:
                    self._console.step(f"It serves, and is not ready yet: {answer}")
                    return
                if now_s - told_s > _TELL_EVERY_S:
                    self._tell_waiting(f"Waiting for the front: {answer}")
                    told_s = now_s
                await asyncio.sleep(_LOOK_EVERY_S if answered_s is None else _LOOK_AGAIN_S)

    async def _only_model_is_away(self, response: httpx.Response) -> bool:
        """Return True if only the model provider is away, and was asked before: the start does not wait for it."""
        assert self._parts is not None
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or response.json().get("unreachable") != [MODEL]:
            return False
        outage = (await build_model_news(self._settings, self._parts).current()).outage_at(system_now_ms())
        self._model_fault = None if outage is None else outage.fault
        return self._model_fault is not None

    async def _unless_stopped(self, work: Awaitable[None]) -> None:
        """Wait for the work, or for the signal to stop, which ends it."""
        task, stop = asyncio.ensure_future(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            await cancel_and_wait([task, stop])

    # End

    async def _end(self) -> None:
        ending = [front.end() for front in self._fronts]
        if self._member is not None and not self._alone:
            ending.append(self._member.give_away())
        await asyncio.gather(*ending)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._member is not None:
            # A server that has joined others ends actors that these may have used.
            await self._member.leave(alone=self._alone, drain=self._served or not self._alone)
        self._leave_ray()
        await self._logs.close()
        await self._metrics.close()
        if self._secrets is not None:
            self._secrets.close()
        shutil.rmtree(self._dir, ignore_errors=True)
        if self._marks is not None:
            # All that was ever confirmed is before this one.
            await self._marks.mark()
        if self._parts is not None:
            await self._parts.close()
        if self._store is not None:
            await self._store.stop()
        for listener in self._listeners:
            listener.close()

    def _leave_ray(self) -> None:
        """Leave Ray, and end its remaining processes: after an interrupted start, some would stay for a minute."""
        if not self._alone:
            self._ray.leave(cluster.leave)
            return
        store_pid = self._store.pid if self._store else None
        rays = {pid: process for pid, process in descendants(os.getpid()).items() if pid != store_pid}
        self._ray.leave(cluster.leave)
        left = all_processes()
        end(pid for pid, process in rays.items() if pid in left and left[pid].command == process.command)


def _set_from_a_thread(event: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.suppress(RuntimeError):  # The loop has ended just now.
        loop.call_soon_threadsafe(event.set)


def run(settings: Settings, launcher: Launcher, accept_loss: bool = False) -> int:
    """Serve with these settings until a signal comes; return the exit status.

    accept_loss: take a store as it is that is older than what it confirmed.
    """
    raw = RawOutput(settings.data_dir)
    log_by(settings, "server", raw.terminal)
    _have_ray_log_to(sys.stderr)
    return asyncio.run(_serve(settings, raw, launcher, accept_loss))


async def _serve(settings: Settings, raw: RawOutput, launcher: Launcher, accept_loss: bool) -> int:
    status, console = 1, OperatorConsole(raw.terminal, settings)
    try:
        status = await Supervisor(with_root_key(settings), raw.terminal, launcher, accept_loss=accept_loss).run()
    except RayStartError as error:
        status = TRY_AGAIN
        raw.keep(error)
        text = f"Ray did not start: {error}.{busy()} What it printed is in {raw.path}."
        console.not_yet_started(text)
    except (StartError, StoreError, KeyMismatchError, NewerStoreError, TransientError) as error:
        console.not_started(str(error))
    except OSError as error:
        raw.keep(error)
        console.not_started(of_os_error(error))
    except Exception as error:
        # The traceback of an unforeseen error is for developers, and of no use on the operator's terminal.
        raw.keep(error)
        console.not_started(f"{type(error).__name__}: {error} (where, and what else was printed, is in {raw.path})")
    # Only Python's own threads are left, one of which Ray may block. The launcher does not wait for them.
    launcher.tell(status=status)
    return status


def _have_ray_log_to(stream: TextIO) -> None:
    """Write the log of Ray's Python code to the output of its C++ code."""
    logger = logging.getLogger("ray")
    logger.addHandler(logging.StreamHandler(stream))
    logger.propagate = False

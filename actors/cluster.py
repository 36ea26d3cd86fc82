"""Ray: the only file that knows it. Starts or joins a cluster, names, places and restarts the actor processes.

The classes with the work in them are plain; what is here are thin shells around them that Ray runs. All shells are
restarted by Ray when their process dies, hold nothing that must survive, and never rely on Ray repeating a call:
the router does that, because it knows that commands are idempotent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError

from ..config.logging import configure_logging
from ..config.settings import Settings
from .compose import build_host, build_oracle, build_parts, build_treasury
from .domain.pricing import BtcPrice
from .messages import ANSWERS, CALLS, Answer, Call, Cancel
from .placement import owned_by
from .ports import TransientError
from .router import LinkError, Router

_NAMESPACE: Final = "satmeter"
_ORACLE: Final = "oracle"
_TREASURY: Final = "treasury"
# Answers wait in long polls; each front has one of them at every host, beside its short calls.
_CONCURRENCY: Final = 1_000
# Ray's smallest; messages travel inline, so that nothing of ours is ever stored there.
_OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024
_START_BACKOFF_S: Final = 0.2


class HostShell:
    """An `ActorHost` in a process of its own. It serves once it has taken its partitions over."""

    def __init__(self, settings: Settings, host_id: str, host_ids: Sequence[str]) -> None:
        configure_logging(settings.log_level)
        self._settings = settings
        self._partitions = owned_by(host_id, host_ids)
        self._starting: asyncio.Task[None] | None = None

    async def submit(self, inbox_id: str, calls: bytes) -> None:
        """See `ActorHost.submit`."""
        await self.ready()
        self._host.submit(inbox_id, CALLS.decode(calls))

    async def collect(self, inbox_id: str) -> bytes:
        """See `ActorHost.collect`."""
        await self.ready()
        return ANSWERS.encode(await self._host.collect(inbox_id))

    async def ready(self) -> None:
        """Returns once the host serves. The first call after a restart starts it."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def drain(self, patience_s: float) -> None:
        """Ends it in good order."""
        if self._starting is not None:
            await self.ready()
            await self._host.stop(patience_s)

    async def _start(self) -> None:
        self._host = build_host(self._settings, build_parts(self._settings), ask_price)
        while True:
            try:
                await self._host.start(self._partitions)
                break
            except TransientError:
                await asyncio.sleep(_START_BACKOFF_S)


class OracleShell:
    """The one `Oracle`."""

    def __init__(self, settings: Settings) -> None:
        configure_logging(settings.log_level)
        self._oracle = build_oracle(settings)

    async def price(self) -> BtcPrice:
        """See `Oracle.price`."""
        return await self._oracle.price()

    async def ready(self) -> None:
        """Returns when it serves."""


class TreasuryShell:
    """The one `Treasury`."""

    def __init__(self, settings: Settings, host_ids: Sequence[str]) -> None:
        configure_logging(settings.log_level)
        self._settings = settings
        self._host_ids = host_ids
        self._running: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Returns when it watches. The first call after a restart starts it, so somebody must keep calling."""
        if self._running is None or self._running.done():
            treasury = build_treasury(self._settings, build_parts(self._settings), connect_router(self._host_ids))
            self._running = asyncio.create_task(treasury.run())


class RayLink:
    """Implements `HostLink` for a host behind Ray."""

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self._handle: Any = None

    async def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hands calls over. Raises `LinkError`."""
        await self._ask("submit", inbox_id, CALLS.encode(list(calls)))

    async def collect(self, inbox_id: str) -> Sequence[Answer]:
        """Waits some seconds for answers. Raises `LinkError`."""
        return ANSWERS.decode(await self._ask("collect", inbox_id))

    async def _ask(self, method: str, *args: Any) -> Any:
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(ray.get_actor, self._host_id, _NAMESPACE)
            return await getattr(self._handle, method).remote(*args)
        except (RayError, ValueError) as error:
            self._handle = None
            raise LinkError(f"{self._host_id}: {type(error).__name__}") from error


async def ask_price() -> BtcPrice:
    """The oracle's price. Raises `RayError` or `ValueError` while the actor can't be reached."""
    handle = await asyncio.to_thread(ray.get_actor, _ORACLE, _NAMESPACE)
    price: BtcPrice = await handle.price.remote()
    return price


def connect_router(host_ids: Sequence[str]) -> Router:
    """A router to these hosts."""
    return Router({host_id: RayLink(host_id) for host_id in host_ids})


def start_local(temp_dir: Path, cpus: int) -> str:
    """Starts Ray on 127.0.0.1 with this process as its owner: it ends with it. Returns the address to join.

    `temp_dir` must be short: Ray puts unix sockets below it, whose paths end at 107 bytes.
    """
    ray.init(
        address="local",
        namespace=_NAMESPACE,
        num_cpus=cpus,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        # What the actors log is shown here: their own files go with Ray's temporary directory.
        log_to_driver=True,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(temp_dir),
    )
    return str(ray.get_runtime_context().gcs_address)


def join(address: str) -> None:
    """Joins a running cluster. Raises `ConnectionError`."""
    ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, configure_logging=False)


def leave() -> None:
    """Leaves the cluster; one that this process started ends."""
    ray.shutdown()


def host_ids(count: int) -> list[str]:
    """The names of so many hosts."""
    return [f"host-{index}" for index in range(count)]


async def start_actors(settings: Settings, ids: Sequence[str]) -> list[Any]:
    """Starts the oracle, the hosts and the treasury, and waits until they serve. Raises `RayError`.

    Whoever calls this must keep what it returns: Ray ends an actor when the last handle of its owner is gone.
    """
    options: dict[str, Any] = {
        "namespace": _NAMESPACE,
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": _CONCURRENCY,
        "num_cpus": 0,
        "scheduling_strategy": "SPREAD",
    }

    def start(shell: type, name: str, *args: Any) -> Any:
        return ray.remote(shell).options(name=name, **options).remote(*args)

    oracle = start(OracleShell, _ORACLE, settings)
    hosts = [start(HostShell, host_id, settings, host_id, ids) for host_id in ids]
    treasury = start(TreasuryShell, _TREASURY, settings, ids)
    actors = [oracle, treasury, *hosts]
    await asyncio.gather(*(actor.ready.remote() for actor in actors))
    return actors


async def check_actors(ids: Sequence[str]) -> list[str]:
    """The names of actors that don't answer within a moment. Asking also starts those that Ray has restarted."""
    names = [*ids, _ORACLE, _TREASURY]
    outcomes = await asyncio.gather(*(_is_ready(name) for name in names))
    return [name for name, ready in zip(names, outcomes, strict=True) if not ready]


async def _is_ready(name: str) -> bool:
    try:
        async with asyncio.timeout(5):
            handle = await asyncio.to_thread(ray.get_actor, name, _NAMESPACE)
            await handle.ready.remote()
            return True
    except (RayError, ValueError, TimeoutError):
        return False


async def drain_hosts(ids: Sequence[str], patience_s: float) -> None:
    """Lets the hosts end what they have begun, for so long."""

    async def drain(host_id: str) -> None:
        try:
            handle = await asyncio.to_thread(ray.get_actor, host_id, _NAMESPACE)
            async with asyncio.timeout(patience_s + 1):
                await handle.drain.remote(patience_s)
        except (RayError, ValueError, TimeoutError):
            return

    await asyncio.gather(*(drain(host_id) for host_id in ids))

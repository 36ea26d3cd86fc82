"""Ray: the only file that knows it. Joins a cluster, and starts, asks and ends the actor processes.

The classes with the work in them are plain; what is here are thin shells around them that Ray runs. All shells are
restarted by Ray when their process dies, hold nothing that must survive, and never rely on Ray repeating a call:
the router does that, because it knows that commands are idempotent. They are detached: in a cluster of several servers,
none of them owns the others' actors.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..config.logging import configure_logging
from ..config.settings import Settings
from .compose import build_host, build_oracle, build_parts, build_roster, build_treasury
from .domain.pricing import BtcPrice
from .keeper import HostReport, NoHostError
from .messages import ANSWERS, CALLS, Answer, Call, Cancel
from .ownership import Ownership
from .placement import Placement
from .ports import TransientError
from .router import LinkError, Router
from .whereabouts import Owners

_ORACLE: Final = "oracle"
_TREASURY: Final = "treasury"
# Answers wait in long polls; each front has one of them at every host, beside its short calls.
_CONCURRENCY: Final = 1_000
# Ray's smallest; messages travel inline, so that nothing of ours is ever stored there.
_OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024
_START_BACKOFF_S: Final = 0.2
_NAME_CHARS: Final = 6
# Ray finds out after a quarter of a minute that a node died: an actor that does not answer twice in a row is started
# anew elsewhere, one that has just been started after some more.
_TENDS_WITHIN_S: Final = 1.5
_MISSES_MAX: Final = 2
_STARTS_WITHIN: Final = 8


class HostShell:
    """An `ActorHost` in a process of its own, and its part in moving partitions."""

    def __init__(self, settings: Mapping[str, Any], host_id: str) -> None:
        self._settings = Settings(**settings)
        configure_logging(self._settings.log_level)
        self._host_id = host_id
        self._node_id = _node_id()
        self._starting: asyncio.Task[None] | None = None

    async def submit(self, inbox_id: str, calls: bytes) -> None:
        """See `ActorHost.submit`."""
        await self._started()
        await self._host.submit(inbox_id, CALLS.decode(calls))

    async def collect(self, inbox_id: str) -> bytes:
        """See `ActorHost.collect`."""
        await self._started()
        return ANSWERS.encode(await self._host.collect(inbox_id))

    async def report(self, placement: bytes) -> bytes:
        """Follows the plan, and says how it does."""
        await self._started()
        self._ownership.adopt(msgspec.json.decode(placement, type=Placement))
        owned = len(self._host.partitions.owned)
        return msgspec.json.encode(HostReport(self._node_id, self._ownership.placement.version, owned))

    async def hand_over(self, placement: bytes, partitions: Sequence[int]) -> Sequence[int]:
        """See `Peer.hand_over`."""
        await self._started()
        return await self._ownership.hand_over(msgspec.json.decode(placement, type=Placement), partitions)

    async def drain(self, patience_s: float) -> None:
        """Ends it in good order."""
        if self._starting is not None:
            await self._started()
            self._ownership.close()
            await self._host.stop(patience_s)

    async def _started(self) -> None:
        """Returns once it serves. The first call after a restart starts it, with the plan that the store holds."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        parts = build_parts(self._settings)
        self._host = build_host(self._host_id, self._settings, parts, ask_price)
        self._ownership = Ownership(self._host_id, self._host, parts.journal, RayLink)
        roster = build_roster(parts, cluster_name())
        await self._host.start()
        while True:
            try:
                self._ownership.adopt(await roster.placement())
                break
            except TransientError:
                await asyncio.sleep(_START_BACKOFF_S)


class OracleShell:
    """The one `Oracle`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        chosen = Settings(**settings)
        configure_logging(chosen.log_level)
        self._oracle = build_oracle(chosen)
        self._node_id = _node_id()

    async def price(self) -> BtcPrice:
        """See `Oracle.price`."""
        return await self._oracle.price()

    async def node(self) -> str:
        """The node it runs on, as soon as it serves."""
        return self._node_id


class TreasuryShell:
    """The one `Treasury`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = Settings(**settings)
        configure_logging(self._settings.log_level)
        self._node_id = _node_id()
        self._running: asyncio.Task[None] | None = None

    async def node(self) -> str:
        """The node it runs on. The first call after a restart sets it to work, so somebody must keep calling."""
        if self._running is None or self._running.done():
            parts = build_parts(self._settings)
            treasury = build_treasury(self._settings, parts, connect_router(parts.journal.owners))
            self._running = asyncio.create_task(treasury.run())
        return self._node_id


class RayLink:
    """Implements `HostLink` and `Peer` for a host behind Ray."""

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self._handle: Any = None

    async def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hands calls over. Raises `LinkError`."""
        await self._ask("submit", inbox_id, CALLS.encode(list(calls)))

    async def collect(self, inbox_id: str) -> Sequence[Answer]:
        """Waits some seconds for answers. Raises `LinkError`."""
        return ANSWERS.decode(await self._ask("collect", inbox_id))

    async def hand_over(self, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
        """Has the host give partitions away (see `Peer`). Raises `LinkError`."""
        released: Sequence[int] = await self._ask("hand_over", msgspec.json.encode(placement), partitions)
        return released

    async def report(self, placement: Placement) -> HostReport:
        """Tells the host the plan. Raises `NoHostError`, `LinkError`."""
        return msgspec.json.decode(await self._ask("report", msgspec.json.encode(placement)), type=HostReport)

    async def drain(self, patience_s: float) -> None:
        """Has the host end in good order. Raises `LinkError`."""
        await self._ask("drain", patience_s)

    async def _ask(self, method: str, *args: Any) -> Any:
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(ray.get_actor, self._host_id)
            return await getattr(self._handle, method).remote(*args)
        except ValueError as error:
            # What looking for an actor raises that does not exist.
            raise NoHostError(f"there is no {self._host_id}") from error
        except RayError as error:
            self._handle = None
            raise LinkError(f"{self._host_id}: {type(error).__name__}") from error


class RayCrew:
    """Implements `Crew`."""

    def __init__(self, settings: Settings) -> None:
        # As plain values: a process that runs another version takes what it knows, and its defaults for the rest.
        self._settings = settings.model_dump()
        self._links: dict[str, RayLink] = {}
        self._misses: dict[str, int] = {}

    async def start(self, host_id: str, node_id: str) -> None:
        """Starts a host (see `Crew`). Raises `LinkError`."""
        await self._begin(HostShell, host_id, node_id, host_id)

    async def ask(self, host_id: str, placement: Placement) -> HostReport:
        """Tells a host the plan and asks how it does. Raises `NoHostError`, `LinkError`."""
        return await self._link(host_id).report(placement)

    async def end(self, host_id: str) -> None:
        """Ends a host for good."""
        self._links.pop(host_id, None)
        with contextlib.suppress(RayError, ValueError):
            await asyncio.to_thread(_kill, host_id)

    async def tend(self, node_ids: Sequence[str]) -> list[str]:
        """Has the oracle and the treasury run on one of these nodes (see `Crew`)."""
        kinds = {_ORACLE: OracleShell, _TREASURY: TreasuryShell}
        fine = await asyncio.gather(*(self._tend(name, shell, node_ids) for name, shell in kinds.items()))
        return [name for name, is_fine in zip(kinds, fine, strict=True) if not is_fine]

    async def drain(self, host_ids: Sequence[str], patience_s: float) -> None:
        """Lets hosts end what they have begun, for so long."""

        async def drain(host_id: str) -> None:
            with contextlib.suppress(LinkError, TimeoutError):
                async with asyncio.timeout(patience_s + 1):
                    await self._link(host_id).drain(patience_s)

        await asyncio.gather(*(drain(host_id) for host_id in host_ids))

    async def end_all(self, host_ids: Sequence[str]) -> None:
        """Ends these hosts, the oracle and the treasury."""
        await asyncio.gather(*(self.end(name) for name in (*host_ids, _TREASURY, _ORACLE)))

    async def _tend(self, name: str, shell: type, node_ids: Sequence[str]) -> bool:
        """Whether the actor is well. It holds nothing, so that one that is not can be replaced at once."""
        try:
            async with asyncio.timeout(_TENDS_WITHIN_S):
                handle = await asyncio.to_thread(ray.get_actor, name)
                if await handle.node.remote() in node_ids:
                    self._misses[name] = 0
                    return True
            await self.end(name)
        except ValueError:
            pass
        except (RayError, TimeoutError):
            self._misses[name] = self._misses.get(name, 0) + 1
            if self._misses[name] < _MISSES_MAX:
                return False
            await self.end(name)
        self._misses[name] = -_STARTS_WITHIN
        with contextlib.suppress(LinkError):
            await self._begin(shell, name, node_ids[0])
        return False

    async def _begin(self, shell: type, name: str, node_id: str, *args: Any) -> None:
        options: dict[str, Any] = {
            "name": name,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "max_task_retries": 0,
            "max_concurrency": _CONCURRENCY,
            "num_cpus": 0,
            # Soft: when the node dies, Ray brings its actors back on another one.
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=True),
        }
        begin: Any = ray.remote(shell).options(**options).remote
        try:
            await asyncio.to_thread(partial(begin, self._settings, *args))
        except (RayError, ValueError) as error:
            raise LinkError(f"{name} can't be started: {type(error).__name__}") from error

    def _link(self, host_id: str) -> RayLink:
        return self._links.setdefault(host_id, RayLink(host_id))


def _kill(name: str) -> None:
    ray.kill(ray.get_actor(name), no_restart=True)


def _node_id() -> str:
    return str(ray.get_runtime_context().get_node_id())


async def ask_price() -> BtcPrice:
    """The oracle's price. Raises `RayError` or `ValueError` while the actor can't be reached."""
    handle = await asyncio.to_thread(ray.get_actor, _ORACLE)
    price: BtcPrice = await handle.price.remote()
    return price


def connect_router(owners: Owners) -> Router:
    """A router to the hosts behind Ray that own the partitions."""
    return Router(owners, RayLink)


def start_local(temp_dir: Path, cpus: int, namespace: str) -> str:
    """Starts Ray on 127.0.0.1 with this process as its owner: it ends with it. Returns the address to join.

    `temp_dir` must be short: Ray puts unix sockets below it, whose paths end at 107 bytes.
    """
    ray.init(
        address="local",
        namespace=namespace,
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


def join(address: str, namespace: str, node_ip: str | None = None) -> None:
    """Joins a running cluster at its node on this machine, the one with `node_ip` where there are several.

    The namespace keeps deployments apart that share a cluster. Raises `ConnectionError`.
    """
    ray.init(
        address=address, namespace=namespace, log_to_driver=False, configure_logging=False, _node_ip_address=node_ip
    )


def cluster_name() -> str:
    """A name of the cluster that this process has joined, the same on all of its nodes."""
    address = str(ray.get_runtime_context().gcs_address)
    return hashlib.sha256(address.encode()).hexdigest()[:_NAME_CHARS]


def this_node() -> str:
    """The Ray node that this process has joined."""
    return _node_id()


def leave() -> None:
    """Leaves the cluster; one that this process started ends."""
    ray.shutdown()

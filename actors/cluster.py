"""Ray cluster access, in the only file that knows Ray: join a cluster, and start, ask and end the actor processes.

Ray restarts the processes of actors that die, and never repeats a call: the router does that, because it knows that
commands are idempotent. Hosts, oracle and treasury are detached: of several servers, none owns the others' actors.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import ray
from ray._private import node, services
from ray._private import state as ray_state
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..config.held_secrets import without_secrets
from ..config.settings import Settings
from .dedicated.actor_process import DedicatedProcess
from .domain.pricing import BtcPrice
from .host_link import LinkError, NoHostError
from .partitioning import Placement
from .placement.coordinator import HostReport
from .placement.failure_detector import Liveness, Replacement
from .ray_actors import DedicatedActor, HostActor, OracleActor, TreasuryActor, Wiring
from .ray_head import hidden_password
from .ray_start import lean_start
from .router.router import Router
from .router.routing_table import Owners
from .transport import HostAddress, SocketLink

_ORACLE: Final = "oracle"
_TREASURY: Final = "treasury"
# Answers wait in long polls; each front has one of them at every host, beside its short calls.
_CONCURRENCY: Final = 1_000
# Ray's smallest; messages travel inline, so that nothing of ours is ever stored there.
_OBJECT_STORE_BYTES: Final = 80 * 1024 * 1024
_START_BACKOFF_S: Final = 0.2
_NODE_WITHIN_S: Final = 300.0
_NAME_CHARS: Final = 6
_NAME_ATTEMPTS: Final = 25
_TENDS_WITHIN_S: Final = 1.5
# Ray's words for an actor that it is about to start, or to start again.
_COMING: Final = frozenset({"DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING"})


class RayLink:
    """Ray calls to a host, which are rare because each costs both sides a millisecond. Implements `Peer`."""

    def __init__(self, host_id: str) -> None:
        self._host_id = host_id
        self._handle: Any = None

    async def endpoint(self) -> HostAddress:
        """Return the address at which the host takes calls. Raises `LinkError`."""
        return msgspec.json.decode(await self._ask("door"), type=HostAddress)

    async def hand_over(self, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
        """Have the host give partitions away (see `Peer`). Raises `LinkError`."""
        released: Sequence[int] = await self._ask("hand_over", msgspec.json.encode(placement), partitions)
        return released

    async def report(self, placement: Placement) -> HostReport:
        """Send the host the plan, and return its report. Raises `NoHostError`, `LinkError`."""
        return msgspec.json.decode(await self._ask("report", msgspec.json.encode(placement)), type=HostReport)

    async def occupied(self) -> bool | None:
        """Return whether the actor has something under way (see `DedicatedProcess`). Raises `LinkError`."""
        answer: bool | None = await self._ask("occupied")
        return answer

    async def drain(self, patience_s: float) -> None:
        """Have the host end in good order. Raises `LinkError`."""
        await self._ask("drain", patience_s)

    async def _ask(self, method: str, *args: Any) -> Any:
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(ray.get_actor, self._host_id)
            return await getattr(self._handle, method).remote(*args)
        except RayError as error:
            # A ValueError inside the host is a RayError, too. Caught first, it is not mistaken for a missing host.
            self._handle = None
            raise LinkError(f"{self._host_id}: {type(error).__name__}") from error
        except ValueError as error:
            # `ray.get_actor` raises this when the actor does not exist.
            raise NoHostError(f"there is no {self._host_id}") from error


class RayTreasury:
    """Implementation of `TreasuryLink`: each question costs a Ray call, which is little beside the node's answer."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def ask(self, question: bytes) -> bytes:
        """Have the desk answer (see `TreasuryLink`). Raises `LinkError`."""
        try:
            if self._handle is None:
                self._handle = await asyncio.to_thread(ray.get_actor, _TREASURY)
            asked = self._handle.wallet
        except (RayError, ValueError, AttributeError) as error:
            # Ray's start of an actor, or a treasury of an earlier version, which has no desk.
            self._handle = None
            raise NoHostError("there is no treasury to ask") from error
        try:
            answer: bytes = await asked.remote(question)
            return answer
        except (RayError, ValueError) as error:
            self._handle = None
            raise LinkError(f"the treasury: {type(error).__name__}") from error


class RayDedicatedProcess(SocketLink):
    """Implementation of `DedicatedProcess`."""

    def __init__(self, actor_id: str) -> None:
        self._actor_id = actor_id
        self._ray = RayLink(actor_id)
        super().__init__(self._ray.endpoint)

    async def occupied(self) -> bool | None:
        """Return whether the actor has something under way (see `DedicatedProcess`). Raises `LinkError`."""
        return await self._ray.occupied()

    async def coming(self) -> bool:
        """Return whether Ray is starting the process (see `DedicatedProcess`)."""
        return await _is_coming(self._actor_id)


class RayProcessLauncher:
    """Implementation of `ProcessLauncher`: processes that end with the host that started them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = without_secrets(settings)
        self._handles: dict[str, Any] = {}

    async def start(self, actor_id: str, partition: int, epoch: int) -> DedicatedProcess:
        """Start a process under the actor's name (see `ProcessLauncher`). Raises `LinkError`."""
        begin: Any = ray.remote(DedicatedActor).options(**_options(actor_id, this_node())).remote
        # Ray ends the process of a host that died, but perhaps not yet. It does not end that of a host that hangs.
        await _end(actor_id)
        for _ in range(_NAME_ATTEMPTS):
            try:
                handle = await asyncio.to_thread(partial(begin, wiring, self._settings, actor_id, partition, epoch))
            except ValueError:
                await asyncio.sleep(_START_BACKOFF_S)  # The name is taken for another moment.
                continue
            except RayError as error:
                raise LinkError(f"{actor_id} can't be started: {type(error).__name__}") from error
            # Ray ends an actor when the last handle of its owner is gone.
            self._handles[actor_id] = handle
            process = RayDedicatedProcess(actor_id)
            await process.occupied()
            return process
        raise LinkError(f"the name {actor_id} is not free")

    async def end(self, actor_id: str) -> None:
        """End a process at once, but not one that another host may have started under its name since."""
        if (handle := self._handles.pop(actor_id, None)) is not None:
            with contextlib.suppress(RayError, ValueError):
                await asyncio.to_thread(partial(ray.kill, handle, no_restart=True))


class RayProcessManager:
    """Implementation of `ProcessManager`."""

    def __init__(self, settings: Settings) -> None:
        # Settings travel as plain values. A process of another version takes those it knows, and its defaults for the
        # rest. Ray keeps them, in its tables and elsewhere.
        self._settings = without_secrets(settings)
        self._links: dict[str, RayLink] = {}
        self._replacements = {name: Replacement(time.monotonic) for name in (_ORACLE, _TREASURY)}

    async def start(self, host_id: str, node_id: str) -> None:
        """Start a host (see `ProcessManager`). Raises `LinkError`."""
        await self._begin(HostActor, host_id, node_id, host_id)

    async def ask(self, host_id: str, placement: Placement) -> HostReport:
        """Send a host the plan, and return its report. Raises `NoHostError`, `LinkError`."""
        return await self._link(host_id).report(placement)

    async def end(self, host_id: str) -> None:
        """End a host for good."""
        self._links.pop(host_id, None)
        await _end(host_id)

    async def tend(self, node_ids: Sequence[str]) -> list[str]:
        """Have the oracle and the treasury run on one of these nodes (see `ProcessManager`)."""
        kinds = {_ORACLE: OracleActor, _TREASURY: TreasuryActor}
        silent = await asyncio.gather(*(self._tend(name, actor_class, node_ids) for name, actor_class in kinds.items()))
        return [name for name, was_silent in zip(kinds, silent, strict=True) if was_silent]

    async def drain(self, host_ids: Sequence[str], patience_s: float) -> None:
        """Let hosts end what they have begun, for at most `patience_s`."""

        async def drain(host_id: str) -> None:
            with contextlib.suppress(LinkError, TimeoutError):
                async with asyncio.timeout(patience_s + 1):
                    await self._link(host_id).drain(patience_s)

        await asyncio.gather(*(drain(host_id) for host_id in host_ids))

    async def end_all(self, host_ids: Sequence[str]) -> None:
        """End these hosts, the oracle and the treasury."""
        await asyncio.gather(*(self.end(name) for name in (*host_ids, _TREASURY, _ORACLE)))

    async def _tend(self, name: str, actor_class: type, node_ids: Sequence[str]) -> bool:
        """Replace the actor if it must be; return whether it was silent for too long. It holds nothing to lose."""
        liveness, replacement = await _see(name, node_ids), self._replacements[name]
        if not replacement.replaces(liveness):
            return False
        if liveness is not Liveness.ABSENT:
            await self.end(name)
        replacement.begun()
        with contextlib.suppress(LinkError):
            # The node is chosen at random, since one of them may have just died.
            await self._begin(actor_class, name, secrets.choice(node_ids))
        return liveness in (Liveness.SILENT, Liveness.COMING)

    async def _begin(self, actor_class: type, name: str, node_id: str, *args: Any) -> None:
        options = _options(name, node_id) | {"lifetime": "detached", "get_if_exists": True}
        begin: Any = ray.remote(actor_class).options(**options).remote
        starting = asyncio.ensure_future(asyncio.to_thread(partial(begin, wiring, self._settings, *args)))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on all the same. A server that ends all actors next must find this one.
            await asyncio.wait({starting})
            raise
        except (RayError, ValueError) as error:
            raise LinkError(f"{name} can't be started: {type(error).__name__}") from error

    def _link(self, host_id: str) -> RayLink:
        return self._links.setdefault(host_id, RayLink(host_id))


def _options(name: str, node_id: str) -> dict[str, Any]:
    return {
        "name": name,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": _CONCURRENCY,
        "num_cpus": 0,
        # The plan decides where hosts live. When the node dies, the plan has them started elsewhere, not Ray.
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
    }


async def _see(name: str, node_ids: Sequence[str]) -> Liveness:
    """Return the state of the oracle or the treasury."""
    try:
        async with asyncio.timeout(_TENDS_WITHIN_S):
            handle = await asyncio.to_thread(ray.get_actor, name)
            return Liveness.SERVES if await handle.node.remote() in node_ids else Liveness.ELSEWHERE
    except (RayError, TimeoutError):
        # A ValueError inside the actor is a RayError, too. Caught first, it is not mistaken for a missing actor.
        return Liveness.COMING if await _is_coming(name) else Liveness.SILENT
    except ValueError:
        return Liveness.ABSENT


async def _is_coming(name: str) -> bool:
    """Return whether Ray is starting the actor. The error of a call does not show it: a dead node's is the same."""
    try:
        async with asyncio.timeout(_TENDS_WITHIN_S):
            return await asyncio.to_thread(_state, name) in _COMING
    except Exception:
        # A private module may raise anything, which must not end the loop that asks.
        return False


def _state(name: str) -> str:
    # Ray shows the states of actors only here, or with its dashboard on.
    return str(ray_state.actors(ray.get_actor(name)._actor_id.hex()).get("State"))  # noqa: SLF001


async def _end(name: str) -> None:
    """End the actor that has this name now, if any."""
    with contextlib.suppress(RayError, ValueError):
        await asyncio.to_thread(_kill, name)


def _kill(name: str) -> None:
    ray.kill(ray.get_actor(name), no_restart=True)


def wiring() -> Wiring:
    """Return the cluster's wiring, as the Ray actors need it in their own process."""
    return Wiring(
        this_node(), _node_ip(), cluster_name(), ask_price, RayLink, RayProcessLauncher, connect_router, RayTreasury
    )


async def ask_price() -> BtcPrice:
    """Return the oracle's price. Raises `RayError` or `ValueError` while the actor can't be reached."""
    handle = await asyncio.to_thread(ray.get_actor, _ORACLE)
    price: BtcPrice = await handle.price.remote()
    return price


def connect_router(owners: Owners) -> Router:
    """Build a router to the hosts behind Ray that own the partitions."""
    return Router(owners, connect)


def connect(host_id: str) -> SocketLink:
    """Build the link to a host, which asks Ray for the host's endpoint."""
    return SocketLink(RayLink(host_id).endpoint)


def start_local(temp_dir: Path, cpus: int, namespace: str) -> str:
    """Start Ray, which ends with the calling thread, and return the address to join. Raises `RayStartError`.

    `temp_dir` must be short: Ray puts unix sockets below it, whose paths end at 107 bytes.
    """
    with lean_start(node.Node, services, _NODE_WITHIN_S):
        ray.init(
            address="local",
            namespace=namespace,
            num_cpus=cpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,  # The actors' logs come here by a socket.
            configure_logging=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(temp_dir),
        )
    return str(ray.get_runtime_context().gcs_address)


def run_head(words: Sequence[str], user: str, password: str) -> None:
    """Be `ray start --head` with these options, as this user of its store, until it exits. Raises `RayStartError`."""
    from ray.scripts.scripts import cli  # It loads what no other process of ours needs.

    login = [*(("--redis-username", user) if user else ()), *(("--redis-password", password) if password else ())]
    with hidden_password(services, password) if password else contextlib.nullcontext():
        cli(["start", "--head", *words, *login], prog_name="ray")


def join(address: str, namespace: str, node_ip: str | None = None) -> None:
    """Join a running cluster at its node on this machine, the one with `node_ip` where there are several.

    The namespace keeps deployments apart that share a cluster. Raises `ConnectionError`.
    """
    ray.init(
        address=address, namespace=namespace, log_to_driver=False, configure_logging=False, _node_ip_address=node_ip
    )


def cluster_name() -> str:
    """Return a name of the cluster that this process has joined, the same on all of its nodes."""
    address = str(ray.get_runtime_context().gcs_address)
    return hashlib.sha256(address.encode()).hexdigest()[:_NAME_CHARS]


def _node_ip() -> str:
    """Return the address by which the others reach this process's node."""
    return str(next(node["NodeManagerAddress"] for node in _nodes() if node["NodeID"] == this_node()))


def _nodes() -> Sequence[Mapping[str, Any]]:
    nodes: Sequence[Mapping[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def this_node() -> str:
    """Return the Ray node that this process has joined."""
    return str(ray.get_runtime_context().get_node_id())


def node_is_gone() -> bool:
    """Return whether Ray says that the node of this process is dead. May take long while Ray is away."""
    here = this_node()
    return any(node["NodeID"] == here and not node["Alive"] for node in _nodes())


def leave() -> None:
    """Leave the cluster; a cluster that this process started ends."""
    ray.shutdown()

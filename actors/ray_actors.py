"""Ray actors: thin classes around the plain ones, each in a process that Ray starts again when it dies.

They hold nothing that must survive. `asyncio` work begins with a call, so each is started by the first one. Methods
keep the names by which servers of earlier versions call them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from ..config.gc_tuning import settle_in
from ..config.held_secrets import Handout, Role, with_secrets
from ..config.logging import log_by
from ..config.secret_socket import NoSecretsError, ask_for_secrets
from ..config.settings import Settings
from .bootstrap import (
    AskPrice,
    HostKeys,
    Parts,
    build_dedicated_host,
    build_desk,
    build_host,
    build_membership,
    build_metrics,
    build_model_watches,
    build_oracle,
    build_oversight,
    build_parts,
    build_solvency,
    build_sums_mover,
    build_treasury,
)
from .dedicated.host import DedicatedHost, ProcessLauncher
from .domain.pricing import BtcPrice
from .host.handover import Handover, Peer
from .host.host import ActorHost
from .metrics.host import HostMetrics
from .metrics.link import hand_over
from .metrics.process import process_registry
from .metrics.tracing import start_tracing
from .partitioning import Placement
from .placement.coordinator import HostReport
from .ports import TransientError
from .router.router import Router
from .router.routing_table import Owners
from .services.hourly_sums import SumsMover
from .services.oversight import Oversight
from .services.solvency import SolvencyWatch
from .services.wallet_desk import TreasuryLink
from .transport import HostListener

_START_BACKOFF_S: Final = 0.2
# The kind of a process that is there for one actor, as metrics name it.
_ACTOR: Final = "actor"
_log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wiring:
    """Cluster as a process in it sees it: its own node, and the ways to reach the others."""

    node_id: str
    node_ip: str
    cluster_name: str
    ask_price: AskPrice
    peer: Callable[[str], Peer]
    launcher: Callable[[Settings], ProcessLauncher]
    router: Callable[[Owners], Router]
    treasury: Callable[[], TreasuryLink]


FindWiring = Callable[[], Wiring]
"""Function that finds the wiring out in the process itself, to which it travels as a name."""


def _settings(values: Mapping[str, Any], process: str, wiring: Wiring) -> Settings:
    # The settings come as plain values: another version of the program may have sent them.
    settings = Settings(**values)
    log_by(settings, process, node_id=wiring.node_id)
    start_tracing(process, settings.otlp_endpoint)
    return settings


async def _given(settings: Settings, role: Role, node_id: str) -> tuple[Settings, Handout]:
    """Return the settings with the secrets of this role, and the other secrets; wait for the node's server."""
    while True:
        try:
            handout = await ask_for_secrets(role, node_id)
            return with_secrets(settings, handout.settings), handout
        except NoSecretsError:
            # A server that is starting again; without any, the plan has this process ended.
            await asyncio.sleep(_START_BACKOFF_S)


class HostActor:
    """Host in a process of its own, and its part in moving partitions."""

    def __init__(self, find_wiring: FindWiring, settings: Mapping[str, Any], host_id: str) -> None:
        self._wiring = find_wiring()
        self._settings = _settings(settings, host_id, self._wiring)
        self._host_id = host_id
        self._starting: asyncio.Task[None] | None = None

    async def door(self) -> bytes:
        """Return the host's `HostAddress`, as soon as the host takes calls."""
        await self._started()
        return self._endpoint

    async def report(self, placement: bytes) -> bytes:
        """Follow the plan, and return the host's report."""
        await self._started()
        self._handover.adopt(msgspec.json.decode(placement, type=Placement))
        await self._handover.verify_now_and_then()
        owned = len(self._host.partitions.owned)
        node_id = self._wiring.node_id
        return msgspec.json.encode(HostReport(node_id, self._handover.placement.version, owned))

    async def hand_over(self, placement: bytes, partitions: Sequence[int]) -> Sequence[int]:
        """See `Peer.hand_over`."""
        await self._started()
        return await self._handover.hand_over(msgspec.json.decode(placement, type=Placement), partitions)

    async def drain(self, patience_s: float) -> None:
        """End the host in good order."""
        if self._starting is not None:
            await self._started()
            self._handover.close()
            await self._host.stop(patience_s)

    async def _started(self) -> None:
        """Return once the host serves.

        The first call after a restart starts the host, with the plan that the store holds.
        """
        if self._starting is None:
            self._starting = _begin(self._start(), host_id=self._host_id)
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        settings, handout = await _given(self._settings, Role.HOST, self._wiring.node_id)
        metrics = build_metrics(settings)
        self._metrics = _hand_over(metrics.registry, Role.HOST.value, self._wiring.node_id)
        parts = build_parts(settings, self._wiring.treasury(), metrics.journal)
        await _until_store_answers(parts.enter)
        self._host = self._build(settings, parts, HostKeys(handout.upstream_keys, handout.webhook_keys), metrics)
        self._handover = Handover(self._host_id, self._host, parts.journal, self._wiring.peer)
        membership = build_membership(parts, self._wiring.cluster_name)
        await self._host.start()
        self._endpoint = msgspec.json.encode(await HostListener(self._host).open(self._wiring.node_ip))
        settle_in()
        self._handover.adopt(await _until_store_answers(membership.placement))

    def _build(
        self, settings: Settings, parts: Parts, keys: HostKeys, metrics: HostMetrics
    ) -> ActorHost | DedicatedHost:
        wiring = self._wiring
        place = self._host_id, settings, parts, wiring.ask_price, keys
        if settings.placement == "dedicated":
            return build_dedicated_host(*place, wiring.launcher(settings), metrics)
        return build_host(*place, metrics=metrics)


class DedicatedActor:
    """`ActorHost` of one actor, in the partition of the host that started it."""

    def __init__(
        self, find_wiring: FindWiring, settings: Mapping[str, Any], actor_id: str, partition: int, epoch: int
    ) -> None:
        self._wiring = find_wiring()
        self._settings = _settings(settings, f"actor {actor_id}", self._wiring)
        self._assignment = actor_id, partition, epoch
        self._starting: asyncio.Task[None] | None = None

    async def door(self) -> bytes:
        """Return the process's `HostAddress`, as soon as the process takes calls."""
        await self._started()
        return self._endpoint

    async def occupied(self) -> bool | None:
        """See `DedicatedProcess.occupied`."""
        await self._started()
        return self._host.occupied if self._host.live_actors else None

    async def _started(self) -> None:
        if self._starting is None:
            self._starting = _begin(self._start(), actor_id=self._assignment[0])
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        actor_id, partition, epoch = self._assignment
        wiring = self._wiring
        settings, handout = await _given(self._settings, Role.HOST, wiring.node_id)
        metrics = build_metrics(settings)
        self._metrics = _hand_over(metrics.registry, _ACTOR, wiring.node_id)
        parts = build_parts(settings, wiring.treasury(), metrics.journal)
        await _until_store_answers(parts.enter)
        keys = HostKeys(handout.upstream_keys, handout.webhook_keys)
        self._host = build_host(actor_id, settings, parts, wiring.ask_price, keys, actor_id, metrics)
        await self._host.start()
        self._endpoint = msgspec.json.encode(await HostListener(self._host).open(wiring.node_ip))
        settle_in()
        await _until_store_answers(lambda: self._host.lend(partition, epoch))


def _begin(starting: Coroutine[Any, Any, None], **ids: str) -> asyncio.Task[None]:
    """Start a process's work, and log why when that fails: its callers learn that it does not answer, no more."""

    def tell(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            hint = "nothing is served by this process; it is tried again with another one"
            _log.error("host_start_failed", **ids, error_type=type(error).__name__, error=str(error), hint=hint)

    task = asyncio.create_task(starting)
    task.add_done_callback(tell)
    return task


def _hand_over(registry: CollectorRegistry, role: str, node_id: str) -> asyncio.Task[None]:
    """Hand the metrics of this process over to its node's server, until the process ends."""
    return asyncio.create_task(hand_over(registry, role, node_id))


async def _until_store_answers(call: Callable[[], Awaitable[T]]) -> T:
    """Wait for the store, for as long as it takes."""
    while True:
        try:
            return await call()
        except TransientError:
            await asyncio.sleep(_START_BACKOFF_S)


class OracleActor:
    """Ray actor of the one `Oracle`, and of a `ModelWatch` for each upstream."""

    def __init__(self, find_wiring: FindWiring, settings: Mapping[str, Any]) -> None:
        self._wiring = find_wiring()
        self._settings = _settings(settings, "oracle", self._wiring)
        self._oracle = build_oracle(self._settings)
        self._metrics: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def price(self) -> BtcPrice:
        """See `Oracle.price`."""
        return await self._oracle.price()

    async def node(self) -> str:
        """Return the node that the oracle runs on, as soon as it serves.

        The first call after a restart sets the watches to work, so some process must keep calling.
        """
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = _begin(self._start(), process="oracle")
        return self._wiring.node_id

    async def _start(self) -> None:
        settings, handout = await _given(self._settings, Role.ORACLE, self._wiring.node_id)
        self._metrics = self._metrics or _hand_over(process_registry(), Role.ORACLE.value, self._wiring.node_id)
        parts = build_parts(settings, self._wiring.treasury())
        watches = build_model_watches(settings, parts, handout.upstream_keys)
        self._watching = [asyncio.create_task(watch.run()) for watch in watches]


class TreasuryActor:
    """Ray actor of the one `Treasury`, `SolvencyWatch`, `Oversight`, `SumsMover` and `WalletDesk`."""

    def __init__(self, find_wiring: FindWiring, settings: Mapping[str, Any]) -> None:
        self._wiring = find_wiring()
        self._settings = _settings(settings, "treasury", self._wiring)
        self._metrics: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._watching: list[asyncio.Task[None]] = []

    async def node(self) -> str:
        """Return the node that the treasury runs on, once it has its keys.

        The first call after a restart sets it to work, so some process must keep calling.
        """
        await self._started()
        return self._wiring.node_id

    async def wallet(self, question: bytes) -> bytes:
        """See `WalletDesk.answer`."""
        await self._started()
        return await self._desk.answer(question)

    async def _started(self) -> None:
        ended = self._running is not None and self._running.done()
        failed = self._starting is not None and self._starting.done() and self._starting.exception() is not None
        if self._starting is None or ended or failed:
            self._running = None
            self._starting = _begin(self._start(), process="treasury")
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        settings, _ = await _given(self._settings, Role.TREASURY, self._wiring.node_id)
        self._metrics = self._metrics or _hand_over(process_registry(), Role.TREASURY.value, self._wiring.node_id)
        parts = build_parts(settings)
        self._desk = build_desk(settings, parts)
        treasury = build_treasury(settings, parts, self._wiring.router(parts.journal.owners))
        for watching in self._watching:
            watching.cancel()
        self._running = asyncio.create_task(treasury.run())
        watches: Sequence[SolvencyWatch | Oversight | SumsMover] = [
            build_solvency(parts),
            build_oversight(settings, parts),
            build_sums_mover(parts),
        ]
        self._watching = [asyncio.create_task(watch.run()) for watch in watches]

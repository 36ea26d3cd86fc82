"""Hosts of a run, of either placement, each in a process with the program's real parts in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ...actors.dedicated.actor_process import DedicatedProcess
from ...actors.dedicated.host import DedicatedHost
from ...actors.domain.behaviour import Behaviour
from ...actors.domain.job.behaviour import JobBehaviour
from ...actors.domain.pricing import BtcPrice, MissingUsage
from ...actors.domain.session.behaviour import SessionBehaviour
from ...actors.effects.executor import Effects
from ...actors.effects.invoice_pool import InvoicePool
from ...actors.host.handover import Handover
from ...actors.host.host import ActorHost
from ...actors.host_link import LinkError
from ...actors.messages import ANSWERS, CALLS
from ...actors.partitioning import NO_PLACEMENT, Placement
from ...actors.placement.coordinator import HostReport
from ...actors.ports import Lightning
from ...actors.services.wallet_desk import TreasuryWallet
from .cluster import START_S, Cluster, PeerLink, ProcessLink, ReachedActorProcess, TreasuryDeskLink, wallet_of
from .loop import Process
from .patching import owned_by
from .settings import BTC, job_terms, session_terms
from .store.membership import SimulatedMembership
from .store.server import SimulatedBindings, SimulatedJournal, SimulatedLimits
from .world import Fault

Clock = Callable[[], int]
_PLACEMENT: Final = msgspec.json.Decoder(Placement)
_PASSIVATE_AFTER_S: Final = 5.0
_RETRY_S: Final = 0.2
_NAME_ATTEMPTS: Final = 25
_DESK_ANSWERS_S: Final = 30.0
# The longest that Ray takes to notice the death of a host, with which its actors' processes end.
_ORPHAN_MAX_S: Final = 3.0


class FixedPrices:
    """`Prices` with a fixed price."""

    async def current(self) -> BtcPrice:
        """Return the price."""
        return BTC


def behaviours(missing_usage: MissingUsage | None) -> dict[str, Behaviour[Any]]:
    """Return the rules of jobs and sessions, with the charge for an answer without a usage."""
    return {"job": JobBehaviour(job_terms(missing_usage)), "ses": SessionBehaviour(session_terms(missing_usage))}


class PlannedJournal(SimulatedJournal):
    """Journal of a host, which must claim only what the newest plan that it knows gives it."""

    def __init__(self, cluster: Cluster, host_id: str) -> None:
        super().__init__(cluster.store)
        self._books = cluster.books
        self._host_id = host_id
        self._plan = NO_PLACEMENT

    def told(self, plan: Placement) -> None:
        """Note a plan that the host has received."""
        if plan.version > self._plan.version:
            self._plan = plan

    async def claim(self, partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
        """See `Journal.claim`."""
        self._books.claims(self._host_id, partitions, owned_by(self._host_id, self._plan.members))
        return await super().claim(partitions, host_id)


def _lightning(cluster: Cluster) -> Lightning:
    """Return the node as `build_parts` gives it to a host: with a key that spends, or by way of the treasury."""
    node, world = wallet_of(cluster), cluster.world
    if not cluster.treasury_pays:
        return node
    link = TreasuryDeskLink(cluster)
    return TreasuryWallet(link, node, uptime_ms=world.now_ms, pause=world.pause, answers_within_s=_DESK_ANSWERS_S)


def _actor_host(
    cluster: Cluster, host_id: str, now_ms: Clock, journal: SimulatedJournal, only: str | None = None
) -> ActorHost:
    """Build an actor host as `build_host` does."""
    world, lightning = cluster.world, _lightning(cluster)
    pool = InvoicePool(lightning, SimulatedBindings(cluster.store), ahead_max=4, now_ms=now_ms, clock=world.loop.time)
    limits = SimulatedLimits(cluster.store)
    model, admit_sale = cluster.models.for_host(now_ms)
    outside = cluster.receivers, cluster.destinations
    effects = Effects(
        lightning,
        model,
        FixedPrices(),
        limits,
        pool,
        *outside,
        admit_sale=admit_sale,
        now_ms=now_ms,
        uptime_ms=world.now_ms,
    )
    rules = behaviours(cluster.missing_usage)
    return ActorHost(host_id, journal, effects, rules, passivate_after_s=_PASSIVATE_AFTER_S, now_ms=now_ms, only=only)


class HostProcess:
    """A host in a process of its own, and its part in moving partitions, built as in `HostActor`.

    With the cluster's `processes_max` None, its actors share the process. Else each has one of its own, at most
    `processes_max` at once.
    """

    def __init__(self, cluster: Cluster, host_id: str, node_id: str = "node-0") -> None:
        self._cluster = cluster
        self.node_id = node_id
        self.process = Process(host_id, cluster.world.loop, hosts=True)
        now_ms = cluster.world.clock(self.process)
        journal = self._journal = PlannedJournal(cluster, host_id)
        self.host: ActorHost | DedicatedHost = _actor_host(cluster, host_id, now_ms, journal)
        self._launcher = SimulatedProcessLauncher(cluster, now_ms)
        if (processes_max := cluster.processes_max) is not None:
            self.host = DedicatedHost(
                host_id,
                journal,
                self._launcher,
                self.host,
                behaviours(cluster.missing_usage),
                processes_max=processes_max,
                passivate_after_s=_PASSIVATE_AFTER_S,
                now_ms=now_ms,
            )
        self.handover = Handover(host_id, self.host, journal, lambda peer_id: PeerLink(cluster, peer_id))
        self._started = self.process.spawn(self._start())

    async def _start(self) -> None:
        await self._cluster.world.pause(START_S)
        await self.host.start()
        membership = SimulatedMembership(self._cluster.store, self._cluster.membership)
        self.handover.adopt(self._told(await self._cluster.until_store_answers(membership.placement)))

    def _told(self, plan: Placement) -> Placement:
        self._journal.told(plan)
        return plan

    async def submit(self, queue_id: str, calls: bytes) -> None:
        """See `ActorHost.submit`."""
        await asyncio.shield(self._started)
        await self.host.submit(queue_id, CALLS.decode(calls))

    async def collect(self, queue_id: str) -> bytes:
        """See `ActorHost.collect`."""
        await asyncio.shield(self._started)
        return ANSWERS.encode(await self.host.collect(queue_id))

    async def report(self, placement: bytes) -> bytes:
        """Follow the plan, and return a report (a `HostReport`)."""
        await asyncio.shield(self._started)
        self.handover.adopt(self._told(_PLACEMENT.decode(placement)))
        await self.handover.verify_now_and_then()
        owned = len(self.host.partitions.owned)
        return msgspec.json.encode(HostReport(self.node_id, self.handover.placement.version, owned))

    async def hand_over(self, placement: bytes, partitions: Sequence[int]) -> Sequence[int]:
        """See `Peer.hand_over`."""
        await asyncio.shield(self._started)
        return await self.handover.hand_over(self._told(_PLACEMENT.decode(placement)), partitions)

    async def drain(self, patience_s: float) -> None:
        """End the host's work in good order."""
        await asyncio.shield(self._started)
        self.handover.close()
        await self.host.stop(patience_s)

    def kill(self) -> None:
        """End the host at once; its actors' processes end as soon as that is noticed."""
        self.process.kill()
        self._cluster.world.later(self._cluster.world.chance.uniform(0, _ORPHAN_MAX_S), self._launcher.end_all)


class ActorHostProcess:
    """An actor's own process, built as in `DedicatedActor`. Ray gives it another life when it dies."""

    def __init__(self, cluster: Cluster, now_ms: Clock, actor_id: str, partition: int, epoch: int) -> None:
        self._cluster = cluster
        self._now_ms = now_ms
        self._assignment = actor_id, partition, epoch
        self.actor_id = actor_id
        self.ended = False
        self.process, self._host, self._started = self._life()

    def _life(self) -> tuple[Process, ActorHost, asyncio.Task[None]]:
        process = Process(f"{self.actor_id}'s", self._cluster.world.loop, hosts=True)
        journal = SimulatedJournal(self._cluster.store)
        host = _actor_host(self._cluster, self.actor_id, self._now_ms, journal, only=self.actor_id)
        return process, host, process.spawn(self._start(host))

    async def _start(self, host: ActorHost) -> None:
        _, partition, epoch = self._assignment
        await self._cluster.world.pause(START_S)
        await host.start()
        await self._cluster.until_store_answers(lambda: host.lend(partition, epoch))

    async def submit(self, queue_id: str, calls: bytes) -> None:
        """See `ActorHost.submit`."""
        host = await self._serving()
        await host.submit(queue_id, CALLS.decode(calls))

    async def collect(self, queue_id: str) -> bytes:
        """See `ActorHost.collect`."""
        host = await self._serving()
        return ANSWERS.encode(await host.collect(queue_id))

    async def occupied(self) -> bool | None:
        """See `DedicatedProcess.occupied`."""
        host = await self._serving()
        return host.occupied if host.live_actors else None

    async def _serving(self) -> ActorHost:
        host = self._host
        await asyncio.shield(self._started)
        return host

    @property
    def coming(self) -> bool:
        """Start under way: the process is about to serve, or to be started again."""
        return not self.ended and not (self.process.alive and self._started.done())

    def end(self) -> None:
        """End the process at once and for good."""
        self.ended = True
        if self.process.alive:
            self.process.kill()

    def begin_again(self) -> None:
        """Give the process another life, if it is dead and has not been ended."""
        if not self.ended and not self.process.alive:
            self.process, self._host, self._started = self._life()


class DedicatedLink(ProcessLink):
    """`DedicatedProcess` that reaches an actor's own process through the cluster."""

    def __init__(self, cluster: Cluster, actor_id: str) -> None:
        self._actor_id = actor_id
        self._find_process: Callable[[], ReachedActorProcess] = lambda: cluster.dedicated_process(actor_id)
        super().__init__(cluster, self._find_process)

    async def occupied(self) -> bool | None:
        """Return whether the actor has something under way (see `DedicatedProcess`). Raises `LinkError`."""
        return await self._cluster.carry(self._find_process, lambda dedicated_process: dedicated_process.occupied())

    async def coming(self) -> bool:
        """Return whether the process is about to serve, or to be started again (see `DedicatedProcess`)."""
        await self._cluster.world.pause(self._cluster.world.chance.uniform(0.001, 0.05))
        dedicated_process = self._cluster.dedicated_processes.get(self._actor_id)
        return dedicated_process is not None and dedicated_process.coming


class SimulatedProcessLauncher:
    """`ProcessLauncher` as `RayProcessLauncher`: a process has the actor's name, which only one can have."""

    def __init__(self, cluster: Cluster, now_ms: Clock) -> None:
        self._cluster = cluster
        self._now_ms = now_ms
        self._own: dict[str, ActorHostProcess] = {}

    async def start(self, actor_id: str, partition: int, epoch: int) -> DedicatedProcess:
        """Start a process under the actor's name (see `ProcessLauncher`). Raises `LinkError`."""
        world = self._cluster.world
        await world.pause(world.chance.uniform(0.001, 0.05))
        if (former := self._cluster.dedicated_processes.pop(actor_id, None)) is not None:
            former.end()
        await world.pause(world.chance.uniform(0.01, 0.5))
        if world.strikes(Fault.START_FAILS, 0.1):
            await world.pause(world.chance.uniform(0.1, 10))
        if world.strikes(Fault.START_FAILS, 0.1):
            raise LinkError("the process can't be started")
        for _ in range(_NAME_ATTEMPTS):
            if actor_id not in self._cluster.dedicated_processes:
                break
            await world.pause(_RETRY_S)
        else:
            raise LinkError(f"the name {actor_id} is not free")
        self._own[actor_id] = ActorHostProcess(self._cluster, self._now_ms, actor_id, partition, epoch)
        self._cluster.dedicated_processes[actor_id] = self._own[actor_id]
        world.tell(f"    a process for {actor_id}, epoch {epoch}")
        dedicated_process = DedicatedLink(self._cluster, actor_id)
        await dedicated_process.occupied()
        return dedicated_process

    async def end(self, actor_id: str) -> None:
        """End at once the process that this host has started for the actor."""
        dedicated_process = self._own.pop(actor_id, None)
        await self._cluster.world.pause(self._cluster.world.chance.uniform(0.001, 0.05))
        if dedicated_process is not None:
            self._end(dedicated_process)

    def end_all(self) -> None:
        """End all processes of this host, which has died."""
        for dedicated_process in self._own.values():
            self._end(dedicated_process)

    def _end(self, dedicated_process: ActorHostProcess) -> None:
        dedicated_process.end()
        if self._cluster.dedicated_processes.get(dedicated_process.actor_id) is dedicated_process:
            del self._cluster.dedicated_processes[dedicated_process.actor_id]

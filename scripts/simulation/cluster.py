"""The processes of a run, each with the program's real parts in it: hosts, the treasury, and the front."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from ...actors.domain.behaviour import Behaviour
from ...actors.domain.invoices import Settle, Settlement
from ...actors.domain.job_behaviour import JobBehaviour, JobTerms
from ...actors.domain.pricing import BtcPrice, ModelPrice, PriceOrigin, Rates, Size, Terms, Tier
from ...actors.domain.session_behaviour import SessionBehaviour
from ...actors.domain.session_price import SessionTerms
from ...actors.domain.webhooks import Notify
from ...actors.effects import Effects
from ...actors.host import ActorHost
from ...actors.invoice_pool import InvoicePool
from ...actors.messages import ANSWERS, CALLS, Answer, Call, Cancel, WireCommand, WireReply
from ...actors.ownership import Ownership
from ...actors.placement import NO_PLACEMENT, Placement
from ...actors.ports import TransientError
from ...actors.router import LinkError, Router
from ...actors.treasury import Treasury
from .loop import DiedError, Process
from .model import Asked, SimulatedModel
from .node import NodeAccess, SimulatedNode
from .patching import START_MS
from .store import SimulatedBindings, SimulatedJournal, SimulatedLimits, StoreAccess
from .world import Fault, World

T = TypeVar("T")
_RATES: Final = Rates(Decimal(2), Decimal(10), Decimal("0.1"), Decimal("2.5"), Decimal(4))
TERMS: Final = Terms(
    models={"sonnet": ModelPrice("sonnet", _RATES), "haiku": ModelPrice("haiku", _RATES)},
    tiers={size: Tier(300, 500, 2_000) for size in Size},
    margin_pct=Decimal(40),
    infra_usd=Decimal("0.0005"),
)
JOB_TERMS: Final = JobTerms(terms=TERMS, work_model="sonnet", eval_fee_sats=10, invoice_expiry_s=60, model_attempts=3)
SESSION_TERMS: Final = SessionTerms(
    terms=TERMS,
    eval_model="haiku",
    eval_overhead_tokens=300,
    eval_max_tokens=200,
    work_overhead_tokens=50,
    least_tokens=100,
    default_tokens=1_000,
    most_tokens=4_000,
    life_ms=150_000,
    invoice_expiry_s=60,
    pending_max=5,
)
BTC: Final = BtcPrice(Decimal(100_000), PriceOrigin.COINGECKO, START_MS)
_START_S: Final = 0.2
_PLACEMENT: Final = msgspec.json.Decoder(Placement)


class FixedPrices:
    """Implements `Prices`."""

    async def current(self) -> BtcPrice:
        """The price."""
        return BTC


@dataclass(eq=False)
class Cluster:
    """All processes, what they reach outside, and the plan that the hosts follow."""

    world: World
    store: StoreAccess
    node: SimulatedNode
    asked: Asked
    delivered: Callable[[Settlement], None]
    hosts: dict[str, HostProcess] = field(default_factory=dict)
    placement: Placement = NO_PLACEMENT

    def host(self, host_id: str) -> HostProcess:
        """A host, or `LinkError`."""
        found = self.hosts.get(host_id)
        if found is None:
            raise LinkError(host_id)
        return found

    async def carry(self, host_id: str, call: Callable[[HostProcess], Coroutine[Any, Any, T]]) -> T:
        """A call to a host. Raises `LinkError` when it, its answer or the host got lost."""
        world, chance = self.world, self.world.chance
        await world.pause(chance.uniform(0.0002, 0.002))
        if world.strikes(Fault.LINK_SLOW, 0.02):
            await world.pause(chance.uniform(0.05, 3))
        if world.strikes(Fault.LINK_LOSS, 0.01):
            raise LinkError("lost on the way there")
        host = self.host(host_id)
        try:
            result = await host.process.ask(call(host))
        except DiedError:
            raise LinkError("the host died") from None
        await world.pause(chance.uniform(0.0002, 0.002))
        if world.strikes(Fault.LINK_LOSS, 0.01):
            raise LinkError("lost on the way back")
        return result


class NoReceiver:
    """Implements `Webhooks`: clients of a run name none."""

    async def send(self, notify: Notify) -> bool:
        """Raises `TransientError`."""
        raise TransientError("a run has no receivers of webhooks")

    async def close(self) -> None:
        """Nothing is open."""


class HostProcess:
    """A host in a process of its own, and its part in moving partitions, as `HostShell` puts it together."""

    def __init__(self, cluster: Cluster, host_id: str) -> None:
        world = cluster.world
        self._cluster = cluster
        self.process = Process(host_id, world.loop)
        self.host_id = host_id
        now_ms = world.clock(self.process)
        journal = SimulatedJournal(cluster.store)
        lightning = NodeAccess(cluster.node)
        pool = InvoicePool(
            lightning, SimulatedBindings(cluster.store), ahead_max=4, now_ms=now_ms, clock=world.loop.time
        )
        model, limits = SimulatedModel(world, cluster.asked), SimulatedLimits(cluster.store)
        effects = Effects(lightning, model, FixedPrices(), limits, pool, NoReceiver(), now_ms=now_ms)
        behaviours: dict[str, Behaviour[Any]] = {
            "job": JobBehaviour(JOB_TERMS),
            "ses": SessionBehaviour(SESSION_TERMS),
        }
        self.host = ActorHost(host_id, journal, effects, behaviours, passivate_after_s=10.0, now_ms=now_ms)
        self.ownership = Ownership(host_id, self.host, journal, lambda peer_id: PeerLink(cluster, peer_id))
        self._started = self.process.spawn(self._start())

    async def _start(self) -> None:
        await self._cluster.world.pause(_START_S)
        await self.host.start()
        self.ownership.adopt(self._cluster.placement)

    async def submit(self, inbox_id: str, calls: bytes) -> None:
        """See `ActorHost.submit`."""
        await asyncio.shield(self._started)
        await self.host.submit(inbox_id, CALLS.decode(calls))

    async def collect(self, inbox_id: str) -> bytes:
        """See `ActorHost.collect`."""
        await asyncio.shield(self._started)
        return ANSWERS.encode(await self.host.collect(inbox_id))

    async def report(self, placement: bytes) -> int:
        """Follows the plan; the number of partitions that it owns."""
        await asyncio.shield(self._started)
        self.ownership.adopt(_PLACEMENT.decode(placement))
        await self.ownership.verify_now_and_then()
        return len(self.host.partitions.owned)

    async def hand_over(self, placement: bytes, partitions: Sequence[int]) -> Sequence[int]:
        """See `Peer.hand_over`."""
        await asyncio.shield(self._started)
        return await self.ownership.hand_over(_PLACEMENT.decode(placement), partitions)


class RouterLink:
    """Implements `HostLink`: batches get lost, late, and doubled, and errors come although all was done."""

    def __init__(self, cluster: Cluster, host_id: str) -> None:
        self._cluster = cluster
        self._host_id = host_id

    async def submit(self, inbox_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hands calls over. Raises `LinkError`."""
        batch = CALLS.encode(list(calls))
        twice = self._cluster.world.strikes(Fault.LINK_DOUBLE, 0.03)

        async def take(host: HostProcess) -> None:
            await host.submit(inbox_id, batch)
            if twice:
                await host.submit(inbox_id, batch)

        await self._cluster.carry(self._host_id, take)

    async def collect(self, inbox_id: str) -> Sequence[Answer]:
        """Waits some seconds for answers. Raises `LinkError`."""
        return ANSWERS.decode(await self._cluster.carry(self._host_id, lambda host: host.collect(inbox_id)))

    async def close(self) -> None:
        """There is no connection."""


class PeerLink:
    """Implements `Peer`."""

    def __init__(self, cluster: Cluster, host_id: str) -> None:
        self._cluster = cluster
        self._host_id = host_id

    async def hand_over(self, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
        """Has the host give partitions away. Raises `LinkError`."""
        plan = msgspec.json.encode(placement)
        return await self._cluster.carry(self._host_id, lambda host: host.hand_over(plan, list(partitions)))


class FrontProcess:
    """A front: a router, and the calls of clients that go through it."""

    def __init__(self, cluster: Cluster) -> None:
        self.process = Process("front", cluster.world.loop)
        self.router = Router(SimulatedJournal(cluster.store).owners, lambda host_id: RouterLink(cluster, host_id))

    async def call(self, actor_id: str, command: WireCommand) -> WireReply:
        """The actor's answer. Raises `RefusedError`; `DiedError` when the front dies meanwhile."""
        return await self.process.ask(self.router.call(actor_id, command))

    def stream(self, actor_id: str, command: WireCommand, said: asyncio.Queue[WireReply]) -> asyncio.Task[None]:
        """Puts all that the actor says into the queue; cancelled, the client has left."""

        async def pass_on() -> None:
            async with aclosing(self.router.stream(actor_id, command)) as replies:
                async for reply in replies:
                    said.put_nowait(reply)

        return self.process.spawn(pass_on())


class TreasuryProcess:
    """The treasury, with a router of its own."""

    def __init__(self, cluster: Cluster) -> None:
        world = cluster.world
        self.process = Process("treasury", world.loop)
        journal = SimulatedJournal(cluster.store)
        router = Router(journal.owners, lambda host_id: RouterLink(cluster, host_id))

        async def deliver(settlement: Settlement) -> None:
            if settlement.actor_id is not None:
                await router.call(settlement.actor_id, Settle(settlement.payment_hash, settlement.amount_msat))
                cluster.delivered(settlement)

        async def run() -> None:
            await world.pause(_START_S)
            bindings = SimulatedBindings(cluster.store)
            treasury = Treasury(
                NodeAccess(cluster.node), bindings, deliver, sweep_interval_s=2.0, clock=world.loop.time
            )
            await treasury.run()

        self.process.spawn(run())


async def settled_down(cluster: Cluster) -> bool:
    """Whether every partition's owner is alive and is who the plan names."""
    try:
        owners = await SimulatedJournal(cluster.store).owners(range(1_024))
    except TransientError:
        return False
    return len(owners) == 1_024 and set(owners.values()) <= set(cluster.placement.members)

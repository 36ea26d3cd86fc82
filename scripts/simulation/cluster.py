"""Cluster of a run: its processes, the links between them, and what runs beside the hosts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from ...actors.adapters.lightning.owned_payments import OwnedPayments
from ...actors.domain.behaviour import Command
from ...actors.domain.payments.invoices import Settle, Settlement
from ...actors.domain.pricing import MissingUsage
from ...actors.effects.invoice_pool import KEEP_BOUND_MS
from ...actors.host_link import LinkError, NoHostError
from ...actors.messages import ANSWERS, CALLS, Answer, Call, Cancel, PartT, ReplyT
from ...actors.model_health.health_check import ModelWatch
from ...actors.partitioning import Placement
from ...actors.ports import Lightning, Model, TransientError
from ...actors.router.router import Router
from ...actors.services.treasury import Treasury
from ...actors.services.wallet_desk import WalletDesk
from .destinations import SimulatedDestinations
from .loop import DiedError, Process, SilentError
from .node import NodeAccess, SimulatedNode
from .receivers import Receivers
from .store.membership import MembershipData
from .store.server import SimulatedBindings, SimulatedJournal, SimulatedPayoutOwners, StoreAccess
from .world import Fault, World

START_S: Final = 0.2
_RETRY_S: Final = 0.2
_PAYS: Final = b"pay_out"
_TREASURY_CLOCKS_MS: Final = (-600_000, -320_000, 25_000, 600_000)
_KEY: Final = bytes(32)


class HasProcess(Protocol):
    """A part that runs in a process of its own."""

    @property
    def process(self) -> Process:
        """Process, or its present life."""
        ...


class Reached(HasProcess, Protocol):
    """A process that takes calls for actors."""

    async def submit(self, queue_id: str, calls: bytes) -> None:
        """See `ActorHost.submit`."""
        ...

    async def collect(self, queue_id: str) -> bytes:
        """See `ActorHost.collect`."""
        ...


class ReachedHost(Reached, Protocol):
    """A host as the cluster reaches it."""

    async def drain(self, patience_s: float) -> None:
        """End the host's work in good order."""
        ...

    def kill(self) -> None:
        """End the host at once."""
        ...

    @property
    def node_id(self) -> str:
        """Machine on which the host runs."""
        ...

    async def report(self, placement: bytes) -> bytes:
        """Follow the plan, and return a report (a `HostReport`)."""
        ...

    async def hand_over(self, placement: bytes, partitions: Sequence[int]) -> Sequence[int]:
        """See `Peer.hand_over`."""
        ...


class ReachedActorProcess(Reached, Protocol):
    """A process for one actor, with another life whenever it dies."""

    @property
    def coming(self) -> bool:
        """Start under way: the process is about to serve, or to be started again."""
        ...

    async def occupied(self) -> bool | None:
        """See `DedicatedProcess.occupied`."""
        ...

    def end(self) -> None:
        """End the process at once and for good."""
        ...

    def begin_again(self) -> None:
        """Give the process another life, if it is dead and has not been ended."""
        ...


class Books(Protocol):
    """Books of a run, to which the cluster reports."""

    def claims(self, host_id: str, partitions: Collection[int], planned: Collection[int]) -> None:
        """Note that a host is about to claim partitions; `planned`: those of the newest plan that it knows."""
        ...

    def delivered(self, settlement: Settlement) -> None:
        """Note that the treasury counts a payment as credited."""
        ...


class Models(Protocol):
    """Models of a run, as the processes reach them."""

    def for_host(self, now_ms: Callable[[], int]) -> tuple[Model, Callable[[], Awaitable[None]] | None]:
        """Return the model for one process, and what admits sales there, if anything keeps them back."""
        ...

    def watches(self) -> Sequence[ModelWatch]:
        """Return the watches over upstreams, which run beside the treasury."""
        ...


T = TypeVar("T")
R = TypeVar("R", bound="HasProcess")


@dataclass(eq=False)
class Cluster:
    """Cluster of all processes, and what they reach outside. `processes_max`: see `HostProcess`.

    `missing_usage`: what an answer without a usage costs.
    """

    world: World
    store: StoreAccess
    membership: MembershipData
    node: SimulatedNode
    receivers: Receivers
    destinations: SimulatedDestinations
    models: Models
    missing_usage: MissingUsage | None
    books: Books
    processes_max: int | None
    treasury_pays: bool = False
    """Set where hosts have no key that spends, so that the treasury's desk pays and looks up for them."""
    treasury: TreasuryProcess | None = None
    hosts: dict[str, ReachedHost] = field(default_factory=dict)
    dedicated_processes: dict[str, ReachedActorProcess] = field(default_factory=dict)

    def host(self, host_id: str) -> ReachedHost:
        """Return a host. Raises `LinkError` when there is none."""
        found = self.hosts.get(host_id)
        if found is None:
            raise LinkError(host_id)
        return found

    def dedicated_process(self, actor_id: str) -> ReachedActorProcess:
        """Return an actor's own process. Raises `NoHostError` when there is none."""
        found = self.dedicated_processes.get(actor_id)
        if found is None:
            raise NoHostError(actor_id)
        return found

    async def until_store_answers(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat the call until the store answers, for as long as that takes, as Ray actors do."""
        while True:
            try:
                return await call()
            except TransientError:
                await self.world.pause(_RETRY_S)

    async def carry(
        self, find: Callable[[], R], call: Callable[[R], Coroutine[Any, Any, T]], *, patient: bool = True
    ) -> T:
        """Carry a call to a process. Raises `LinkError` when the call, its answer or the process got lost.

        Unless it is patient, it also raises that when the process stands still.
        """
        world, chance = self.world, self.world.chance
        await world.pause(chance.uniform(0.0002, 0.002))
        if world.strikes(Fault.LINK_SLOW, 0.02):
            await world.pause(chance.uniform(0.05, 3))
        if world.strikes(Fault.LINK_LOSS, 0.01):
            raise LinkError("lost on the way there")
        reached = find()
        try:
            result = await reached.process.ask(call(reached), patient=patient)
        except (DiedError, SilentError) as error:
            raise LinkError(type(error).__name__) from None
        await world.pause(chance.uniform(0.0002, 0.002))
        if world.strikes(Fault.LINK_LOSS, 0.01):
            raise LinkError("lost on the way back")
        return result


class ProcessLink:
    """`HostLink` that loses, delays and doubles batches, and raises errors although all was done.

    Each reply queue has a connection of its own, which ends with the process that it leads to.
    """

    def __init__(self, cluster: Cluster, find: Callable[[], Reached]) -> None:
        self._cluster = cluster
        self._find = find
        self._connected: tuple[str, Process] | None = None

    def _at(self, queue_id: str) -> Reached:
        reached = self._find()
        if self._connected is None or self._connected[0] != queue_id:
            self._connected = queue_id, reached.process
        if self._connected[1] is not reached.process:
            raise LinkError("the connection broke")
        return reached

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        """Hand calls over. Raises `LinkError`."""
        batch = CALLS.encode(list(calls))
        twice = self._cluster.world.strikes(Fault.LINK_DOUBLE, 0.03)

        async def take(reached: Reached) -> None:
            await reached.submit(queue_id, batch)
            if twice:
                await reached.submit(queue_id, batch)

        await self._cluster.carry(partial(self._at, queue_id), take, patient=False)

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        """Wait some seconds for answers. Raises `LinkError`."""
        at = partial(self._at, queue_id)
        carried = self._cluster.carry(at, lambda reached: reached.collect(queue_id), patient=False)
        return ANSWERS.decode(await carried)

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""


class TreasuryDeskLink:
    """`TreasuryLink` to the treasury that runs just now."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def ask(self, question: bytes) -> bytes:
        """Have the desk answer. Raises `LinkError`.

        An order may reach a treasury that stands still for minutes just now, while Ray has started another one.
        """
        world, find = self._cluster.world, self._find
        if _PAYS in question and world.strikes(Fault.TREASURY_DEATH, 0.1):
            lost = self._find()
            world.lose_sight_of(lost.process)
            TreasuryProcess(self._cluster)

            def find() -> TreasuryProcess:
                return lost

        return await self._cluster.carry(find, lambda treasury: treasury.answer(question))

    def _find(self) -> TreasuryProcess:
        treasury = self._cluster.treasury
        if treasury is None or not treasury.process.alive:
            raise NoHostError("there is no treasury")
        return treasury


def router_of(cluster: Cluster) -> Router:
    """Return a router to all hosts."""
    owners = SimulatedJournal(cluster.store).owners
    return Router(owners, lambda host_id: ProcessLink(cluster, partial(cluster.host, host_id)))


class PeerLink:
    """`Peer` that reaches a host through the cluster."""

    def __init__(self, cluster: Cluster, host_id: str) -> None:
        self._cluster = cluster
        self._host_id = host_id

    async def hand_over(self, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
        """Ask the host to give partitions away. Raises `LinkError`."""
        plan, find = msgspec.json.encode(placement), partial(self._cluster.host, self._host_id)
        return await self._cluster.carry(find, lambda host: host.hand_over(plan, list(partitions)))


class FrontProcess:
    """A front: a router, and the calls of clients that go through it."""

    def __init__(self, cluster: Cluster) -> None:
        self.process = Process("front", cluster.world.loop)
        self.router = router_of(cluster)

    async def call(self, actor_id: str, command: Command[ReplyT]) -> ReplyT:
        """Return the actor's answer. Raises `RefusedError`; `DiedError` when the front dies meanwhile."""
        return await self.process.ask(self.router.call(actor_id, command))

    def stream(
        self, actor_id: str, command: Command[ReplyT, PartT], said: asyncio.Queue[ReplyT | PartT]
    ) -> asyncio.Task[None]:
        """Put all replies of the actor into the queue. Cancelling the task means that the client has left."""

        async def pass_on() -> None:
            async with aclosing(self.router.stream(actor_id, command)) as replies:
                async for reply in replies:
                    said.put_nowait(reply)

        return self.process.spawn(pass_on())


def wallet_of(cluster: Cluster) -> Lightning:
    """Return the wallet as a process with the key that spends has it."""
    access = NodeAccess(cluster.node)
    if cluster.node.keeps_owners:
        return access
    owners, bindings = SimulatedPayoutOwners(cluster.store), SimulatedBindings(cluster.store)
    now_ms = cluster.world.now_ms
    return OwnedPayments(access, owners, bindings, _OneKey(), keep_bound_ms=KEEP_BOUND_MS, now_ms=now_ms)


class _OneKey:
    """`InvoiceKey` of the one store of a run. Nothing is credited by it, so that it never fails."""

    async def read(self) -> bytes | None:
        """Return the key."""
        return _KEY

    async def made(self) -> bytes:
        """Return the key."""
        return _KEY


class TreasuryProcess:
    """The treasury, with a router of its own, and the desk at which it pays for hosts. Its clock may be wrong."""

    def __init__(self, cluster: Cluster) -> None:
        world = cluster.world
        self.process = Process("treasury", world.loop)
        cluster.treasury = self
        self._desk: WalletDesk | None = None
        if cluster.treasury_pays:
            if world.strikes(Fault.CLOCK, 0.7):
                self.process.clock_error_ms = world.chance.choice(_TREASURY_CLOCKS_MS)
            self._desk = WalletDesk(wallet_of(cluster), world.clock(self.process), world.now_ms)
        router = router_of(cluster)

        async def deliver(settlement: Settlement) -> None:
            if settlement.actor_id is not None:
                await router.call(settlement.actor_id, Settle(settlement.payment_hash, settlement.amount_msat))
                cluster.books.delivered(settlement)

        async def run() -> None:
            await world.pause(START_S)
            bindings = SimulatedBindings(cluster.store)
            treasury = Treasury(
                NodeAccess(cluster.node), bindings, deliver, sweep_interval_s=2.0, clock=world.loop.time
            )
            await treasury.run()

        self.process.spawn(run())
        for watch in cluster.models.watches():
            self.process.spawn(watch.run())

    async def answer(self, question: bytes) -> bytes:
        """Answer at the desk."""
        assert self._desk is not None
        return await self._desk.answer(question)

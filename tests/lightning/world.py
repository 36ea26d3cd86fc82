"""Worlds around a Lightning node under test: our client for it, the network that pays and is paid, and its faults."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from msgspec.structs import replace

from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.ports import Bindings, Lightning


class Fate(Enum):
    """Outcomes of the next payment that we order.

    PENDING: until `World.end_payment`. ANSWER_LOST: it is paid, and the connection breaks before the answer.
    NOT_RECEIVED: the connection breaks before the node has read the order. SLOW_THEN_...: the answer comes after our
    time-out. REFUSED_FUNDS: the wallet holds too little.
    """

    PAID = auto()
    FAILED = auto()
    PENDING = auto()
    ANSWER_LOST = auto()
    NOT_RECEIVED = auto()
    SLOW_THEN_PAID = auto()
    SLOW_THEN_FAILED = auto()
    REFUSED_FUNDS = auto()


class Tells(Enum):
    """Abilities that not every backend has; see docs/decisions/nodes.md.

    OVERPAID: the amount that arrived, where it is not the invoice's. OWN_INVOICE: it pays an invoice of its own.
    HINTS: it pushes news of payments. FORGED_HINTS: strangers can push, too. FEES: the cost of a route.
    """

    OVERPAID = auto()
    OWN_INVOICE = auto()
    HINTS = auto()
    FORGED_HINTS = auto()
    FEES = auto()


class World(Protocol):
    """A node, our client for it, and the network around it. The wallet holds `FUNDS_SATS` at the start."""

    @property
    def name(self) -> str:
        """Return the name of the backend."""
        ...

    @property
    def lightning(self) -> Lightning:
        """Return our client, around it the record of our payments where the node keeps none. Its time-out is short."""
        ...

    @property
    def bindings(self) -> Bindings:
        """Return the owners of invoices whose data at the node names no actor."""
        ...

    @property
    def tells(self) -> frozenset[Tells]:
        """Return the abilities of this backend."""
        ...

    @property
    def fates(self) -> frozenset[Fate]:
        """Return the fates that can be brought about here."""
        ...

    async def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """Have the network pay an invoice of ours, in full or with another amount."""
        ...

    async def foreign_invoice(self, amount_sats: int) -> PayoutTarget:
        """Return an invoice of another node."""
        ...

    def next_payment(self, fate: Fate) -> None:
        """Decide what becomes of the next payment that is ordered; without it, it is paid."""
        ...

    async def end_payment(self, payment_hash: str, *, paid: bool, fee_msat: int = 0) -> None:
        """End a pending payment."""
        ...

    def orders(self, payment_hash: str) -> int:
        """Return how often the node was ordered to pay this."""
        ...

    async def stop(self) -> None:
        """Take the node away. It keeps its books."""
        ...

    async def start(self) -> None:
        """Bring the node back."""
        ...

    def slow(self, seconds: float) -> None:
        """Have all answers come this much later, or never; 0 ends it."""
        ...

    def rubbish(self, *, on: bool) -> None:
        """Have questions answered by nonsense."""
        ...

    async def push(self, payment_hash: str) -> None:
        """Forge a hint, where `Tells.FORGED_HINTS`."""
        ...

    def mute_hints(self) -> None:
        """Have payments hinted no more."""
        ...

    async def expire(self, payment_hash: str) -> None:
        """Have an invoice lapse."""
        ...

    async def close(self) -> None:
        """End our client and the node."""
        ...


FUNDS_SATS = 10_000
TIMEOUT_S = 1.0


async def owned_of(world: World, settlements: Sequence[Settlement]) -> list[Settlement]:
    """Return settlements with their owners, as the treasury finds them."""
    owners = await world.bindings.owners_of_paid([each.payment_hash for each in settlements if each.made_ahead])
    return [replace(each, actor_id=owners.get(each.payment_hash, each.actor_id)) for each in settlements]


async def looked_up(world: World, payment_hash: str) -> Settlement | None:
    """Return what the node says of an incoming payment, with its owner."""
    settlement = await world.lightning.lookup(payment_hash)
    return None if settlement is None else (await owned_of(world, [settlement]))[0]


async def settled(world: World) -> list[Settlement]:
    """Return the node's newest incoming payments, with their owners."""
    return await owned_of(world, await world.lightning.settlements(100))

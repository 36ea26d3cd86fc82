"""Servers of a run's refund destinations: away, late, tired of us, or with invoices that nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from ...actors.domain.money import Msat
from ...actors.domain.payments.destinations import Destination, DestinationFault
from ...actors.domain.payments.payouts import PayoutTarget
from ...actors.ports import DestinationError, TransientError
from .node import SimulatedNode
from .world import Fault, World

_ATTEMPT_S: Final = 8.0
_WRONG_MSAT: Final = (-5_000, -1_000, 1_000, 100_000)


class Watcher(Protocol):
    """Books of the invoices that destinations gave."""

    def offered(self, destination: str, payment_hash: str, asked_msat: int) -> None:
        """Note that a destination gave this invoice when it was asked for one over this amount."""
        ...


@dataclass(eq=False)
class SimulatedDestinations:
    """`Destinations` with all servers there are, each of one address."""

    world: World
    node: SimulatedNode
    watcher: Watcher
    away: bool = False
    given: dict[str, list[PayoutTarget]] = field(default_factory=dict)

    async def resolve(self, destination: Destination, amount_msat: Msat, network: str | None = None) -> PayoutTarget:
        """Make an invoice (see `Destinations`). Raises `DestinationError`, `TransientError`."""
        world, chance = self.world, self.world.chance
        await world.pause(chance.uniform(0.01, 0.4))
        if self.away or world.strikes(Fault.DESTINATION_FAILS, 0.3):
            await world.pause(chance.choice([0.01, _ATTEMPT_S]))
            raise TransientError("a destination's server failed")
        if world.strikes(Fault.DESTINATION_REFUSES, 0.15):
            fault = chance.choice([DestinationFault.REFUSED, DestinationFault.NOT_FOUND])
            raise DestinationError(fault, "the destination can't be paid")
        target = self._made(destination.text, amount_msat)
        self.watcher.offered(destination.text, target.payment_hash, amount_msat.value)
        world.tell(f"  {destination.text} gives {target.payment_hash[:8]} over {target.amount_msat.value} msat")
        if world.strikes(Fault.DESTINATION_LATE, 0.3):
            await world.pause(chance.uniform(0.5, _ATTEMPT_S))
        await world.pause(chance.uniform(0.01, 0.4))
        return target

    def _made(self, destination: str, amount_msat: Msat) -> PayoutTarget:
        world, chance = self.world, self.world.chance
        before = self.given.setdefault(destination, [])
        if before and world.strikes(Fault.DESTINATION_WRONG, 0.3):
            return chance.choice(before)
        sats = amount_msat.whole_sats
        if world.strikes(Fault.DESTINATION_WRONG, 0.2):
            sats = max(1, sats + chance.choice(_WRONG_MSAT) // 1_000)
        # The wallet may be one at our own node.
        ours = world.strikes(Fault.DESTINATION_WRONG, 0.2)
        before.append(self.node.strangers_invoice(sats) if ours else self.node.wallet_invoice(sats))
        return before[-1]

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""

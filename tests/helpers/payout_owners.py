"""The store's record of the owners of payouts, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from satmeter.actors.adapters.lightning.owned_payments import OwnedPayments
from satmeter.actors.effects.invoice_pool import KEEP_BOUND_MS
from satmeter.actors.ports import Bindings, InvoiceKey, Lightning, PayoutOwners
from tests.lightning.keys import KeyInMemory


def owned(node: Lightning, owners: PayoutOwners, bindings: Bindings, key: InvoiceKey | None = None) -> OwnedPayments:
    """Return a bare node's client with the record of whose its payments are."""
    return OwnedPayments(node, owners, bindings, key or KeyInMemory(), keep_bound_ms=KEEP_BOUND_MS)


@dataclass
class OwnersInMemory:
    """Implementation of `PayoutOwners`. `fault`, while set, is raised by every call."""

    owners: dict[str, str] = field(default_factory=dict)
    fault: Exception | None = None
    asked: list[list[str]] = field(default_factory=list)

    async def claim(self, payment_hash: str, actor_id: str) -> str:
        if self.fault is not None:
            raise self.fault
        return self.owners.setdefault(payment_hash, actor_id)

    async def owners_of(self, payment_hashes: Sequence[str]) -> Mapping[str, str]:
        if self.fault is not None:
            raise self.fault
        self.asked.append(list(payment_hashes))
        return {each: self.owners[each] for each in payment_hashes if each in self.owners}

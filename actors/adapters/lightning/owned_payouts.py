"""Payouts at a node that keeps nothing of ours with a payment: the store says which actor each hash belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from ...domain.money import Msat
from ...domain.payments.invoices import Invoice, Settlement
from ...domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...ports import InvoiceOrder, Lightning, PayoutOwners


class OwnedPayouts:
    """Implementation of `Lightning` around a bare one, which takes any payment for the one who asks.

    A payment hash is claimed for the actor before the order is sent, for good. Two actors with the same invoice would
    otherwise both take the node's one payment for theirs.

    A look-up claims, too. A store may lose a claim in a failover, and a payout that is still looked up takes it back
    before another actor comes with the same invoice. A claim without an order harms nothing: it only keeps others from
    paying that invoice.
    """

    def __init__(self, node: Lightning, owners: PayoutOwners) -> None:
        self._node = node
        self._owners = owners

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Send a payment, once (see `Lightning.pay_out`). Nothing is sent without a claim of this actor's."""
        if not await self._owns(target, actor_id):
            return PayoutReport(PayoutStatus.FAILED)
        return await self._node.pay_out(target, actor_id, fee_limit_msat)

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """See `Lightning.payout`. A payment that no actor had claimed is this actor's."""
        if not await self._owns(target, actor_id):
            return PayoutReport(PayoutStatus.FAILED)
        return await self._node.payout(target, actor_id)

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """See `Lightning.sent`. A payment that no actor claimed has an empty `actor_id`: it is the operator's own."""
        rows = await self._node.sent(limit, offset)
        owners = await self._owners.owners_of(list(dict.fromkeys(row.payment_hash for row in rows)))
        return [replace(row, actor_id=owners.get(row.payment_hash, "")) for row in rows]

    async def _owns(self, target: PayoutTarget, actor_id: str) -> bool:
        return await self._owners.claim(target.payment_hash, actor_id) == actor_id

    # All else is the node's alone.

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """See `Lightning.create_invoice`."""
        return await self._node.create_invoice(order)

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """See `Lightning.lookup`."""
        return await self._node.lookup(payment_hash)

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """See `Lightning.settlements`."""
        return await self._node.settlements(limit, offset)

    async def received(self, payment_hash: str) -> bool:
        """See `Lightning.received`."""
        return await self._node.received(payment_hash)

    async def is_own(self, target: PayoutTarget) -> bool:
        """See `Lightning.is_own`."""
        return await self._node.is_own(target)

    async def balance(self) -> Msat:
        """See `Lightning.balance`."""
        return await self._node.balance()

    def hints(self) -> AsyncIterator[str]:
        """See `Lightning.hints`."""
        return self._node.hints()

    async def check(self) -> None:
        """See `Lightning.check`."""
        await self._node.check()

    async def trouble(self) -> str | None:
        """See `Lightning.trouble`."""
        return await self._node.trouble()

    async def close(self) -> None:
        """End connections."""
        await self._node.close()

"""Payments at a node that keeps nothing of ours with them: the store says which actor each hash belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from msgspec.structs import replace

from ...clock import system_now_ms
from ...domain.money import Msat
from ...domain.payments.invoices import Invoice, Settlement
from ...domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...ports import Bindings, InvoiceKey, InvoiceOrder, Lightning, PayoutOwners, TransientError
from .invoice_ids import UNNAMED, invoice_id, is_of, new_random


class OwnedPayments:
    """Implementation of `Lightning` around a bare one, which takes any payment for the one who asks.

    An invoice never names its actor, as all who see it can read its description: a job's id is all that one needs to
    see the job and to take its refund. Like an invoice made ahead it becomes the actor's by a binding in the store,
    which is written before anybody sees the invoice, and kept for `keep_bound_ms` after its end. What the node says of
    an invoice's maker is not believed: a payment without an id of this store's is `foreign`.

    A payout's hash is claimed for the actor before the order is sent, for good. Two actors with the same invoice would
    otherwise both take the node's one payment for theirs. A look-up claims, too. A store may lose a claim in a
    failover, and a payout that is still looked up takes it back before another actor comes with the same invoice. A
    claim without an order harms nothing: it only keeps others from paying that invoice.
    """

    def __init__(
        self,
        node: Lightning,
        owners: PayoutOwners,
        bindings: Bindings,
        key: InvoiceKey,
        *,
        keep_bound_ms: int,
        now_ms: Callable[[], int] = system_now_ms,
    ) -> None:
        self._node = node
        self._owners = owners
        self._bindings = bindings
        self._invoice_key = key
        self._key: bytes | None = None
        self._keep_bound_ms = keep_bound_ms
        self._now_ms = now_ms
        self._random = new_random()

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice, and bind it to its actor. Raises `PortError`: then the invoice may exist, unseen.

        One that is made ahead is bound by the one who gives it out.
        """
        if self._key is None:
            self._key = await self._invoice_key.made()
        invoice = await self._node.create_invoice(replace(order, actor_id=invoice_id(self._key, self._random)))
        if order.actor_id.startswith(UNNAMED):
            return invoice
        keep_ms = max(invoice.expires_at_ms - self._now_ms(), 0) + self._keep_bound_ms
        if not await self._bindings.bind(invoice.payment_hash, order.actor_id, keep_ms):
            raise TransientError("the Lightning node made an invoice that it had made before")
        return invoice

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """See `Lightning.lookup`."""
        settlement = await self._node.lookup(payment_hash)
        return None if settlement is None else await self._judged(settlement)

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """See `Lightning.settlements`."""
        return [await self._judged(row) for row in await self._node.settlements(limit, offset)]

    async def _judged(self, settlement: Settlement) -> Settlement:
        """Return the payment, as foreign where its id is not of this store. Raises `TransientError`."""
        if settlement.actor_id is None:
            return settlement
        if self._key is None:
            # Another server of this store may have made it.
            self._key = await self._invoice_key.read()
        ours = self._key is not None and is_of(self._key, settlement.actor_id)
        return settlement if ours else replace(settlement, foreign=True)

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

"""Protocols of the Lightning node, and of the store's word on whose invoices are; see `ports.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from .domain.money import Msat
from .domain.payments.invoices import Invoice, Settlement
from .domain.payments.payouts import PayoutReport, PayoutTarget, SentPayment


class Urgency(IntEnum):
    """Who waits for an invoice: somebody who has paid us before, somebody new, or nobody yet."""

    PAID = 0
    NEW = 1
    AHEAD = 2


class InvoiceOrder(msgspec.Struct, frozen=True):
    """An invoice to be made: whole sats, its text, its life, the actor it belongs to, and how urgent it is."""

    amount_sats: int
    memo: str
    expiry_s: int
    actor_id: str
    urgency: Urgency = Urgency.NEW


class Lightning(Protocol):
    """The Lightning node. Only `lookup` and `settlements`, which authenticate the node, may credit anything."""

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Makes an invoice. Raises `TransientError` or `PermanentError`; it may exist all the same, unseen."""
        ...

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """The settled incoming payment with this hash, None while it is unpaid or unknown to the node."""
        ...

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """Settled incoming payments of ours among the node's newest `limit` payments after `offset`."""
        ...

    async def pay_out(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Sends a payment, once. Any exception leaves open whether it was sent: only `payout` can tell then.

        Also a report of a failure is a claim about this call alone; `payout` says what became of the payment. Only a
        report with the refusal `KEY` is certain: nothing was ordered.
        """
        ...

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """What has become of a payment of ours, by the node's own word. Raises `TransientError`, `PermanentError`.

        One to the same payment hash that belongs to another actor is a failure of this one's.
        """
        ...

    async def received(self, payment_hash: str) -> bool:
        """Whether the wallet that pays out knows this payment that came in; if not, it is another wallet.

        Raises `PortError`.
        """
        ...

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """Payments of ours that went out and were paid, the newest first. Raises as `payout` does."""
        ...

    async def balance(self) -> Msat:
        """What is in the wallet, less what payments under way have set aside. Raises `PortError`."""
        ...

    def hints(self) -> AsyncIterator[str]:
        """Payment hashes that something claims were paid. Forgeable and lossy: a reason to ask, nothing more.

        Ends or raises `TransientError` when the connection breaks; the caller connects anew and then sweeps.
        """
        ...

    async def check(self) -> None:
        """Raises `PortError` when the node can't be reached or does not accept our key."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class Bindings(Protocol):
    """Whose the invoices are that were made ahead, which their own data at the node can't tell."""

    async def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        """Makes an invoice this actor's, for `keep_ms` or, once it was paid, for good.

        False when it is somebody's already, or was paid before it was anybody's. Raises `TransientError`: then nobody
        may be shown the invoice.
        """
        ...

    async def owners_of_paid(self, payment_hashes: Sequence[str]) -> Mapping[str, str | None]:
        """Whose these paid invoices are; keeps that for good, as the node may tell of a payment again at any time.

        None for one that is nobody's, and can't be bound any more; it is left out when this was told before. Raises
        `TransientError`.
        """
        ...

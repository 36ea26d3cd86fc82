"""Protocols of the Lightning node, and of the store's record of the owners of invoices; see `ports.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from .domain.money import Msat
from .domain.payments.destinations import Destination
from .domain.payments.invoices import Invoice, Settlement
from .domain.payments.payouts import PayoutReport, PayoutTarget, SentPayment


class Urgency(IntEnum):
    """Urgency of an invoice: a client that has paid us before waits for it, a new client, or no client yet."""

    PAID = 0
    NEW = 1
    AHEAD = 2


class InvoiceOrder(msgspec.Struct, frozen=True):
    """Order for an invoice: whole sats, its text, its life, the actor that it belongs to, and its urgency."""

    amount_sats: int
    memo: str
    expiry_s: int
    actor_id: str
    urgency: Urgency = Urgency.NEW


class WalletWords(msgspec.Struct, frozen=True):
    """Words about the wallet, for fronts. `can_pay` is False while nothing can be paid out without `pays_with`.

    `troubles` has a sentence for each code of `Lightning.trouble`; `unusable`, of those with which no invoice works
    either, the words for the middle of a sentence.
    """

    can_pay: bool = True
    pays_with: str | None = None
    troubles: Mapping[str, str] = {}
    unusable: Mapping[str, str] = {}


class Lightning(Protocol):
    """Port of the Lightning node. Only `lookup` and `settlements`, which authenticate the node, may credit anything."""

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice. Raises `TransientError` or `PermanentError`; it may exist all the same, unseen."""
        ...

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """Return the settled incoming payment with this hash, None while it is unpaid or unknown to the node."""
        ...

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """Return settled incoming payments among the node's newest `limit` after `offset`; none after the last.

        Those of others in the same wallet may be among them, without an actor.
        """
        ...

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Send a payment, once. Any exception leaves open whether it was sent: only `payout` can tell then.

        `fee_limit_msat` is what the route may cost at most. A node that takes no limit says so in its own docstring.
        Also a report of a failure is a claim about this call alone; `payout` says what became of the payment. Only a
        report with the refusal `KEY` is certain: nothing was ordered.
        """
        ...

    async def is_own(self, target: PayoutTarget) -> bool:
        """Return True only if the node made this invoice and so pays it within itself, without a route and its fee.

        A backend that does not know, or whose node does not pay itself, says no. Raises `TransientError`.
        """
        ...

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Return the state of a payment of ours, by the node's own word. Raises `TransientError`, `PermanentError`.

        A payment to the same payment hash that belongs to another actor counts as a failure of this actor's.
        """
        ...

    async def received(self, payment_hash: str) -> bool:
        """Return whether the wallet that pays out knows that this incoming payment was paid.

        If it does not, it is another wallet, or has lost what it knew. Raises `PortError`.
        """
        ...

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """Return payments that went out and were paid, the newest first; none after the last. Raises as `payout` does.

        The operator's own may be among them, with an empty `actor_id`.
        """
        ...

    async def balance(self) -> Msat:
        """Return the wallet's balance, less the reserves of payments under way. Raises `PortError`."""
        ...

    def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes that something claims were paid. Forgeable and lossy: a reason to ask, nothing more.

        Ends or raises `TransientError` when the connection breaks; the caller connects again and then sweeps.
        """
        ...

    async def check(self) -> None:
        """Raise `PortError` when the node can't be reached or does not accept our key."""
        ...

    async def trouble(self) -> str | None:
        """Return the code of what is wrong with our keys and their rights; it moves and orders nothing.

        The backend's row in the table has a sentence for each code. Raises `TransientError`.
        """
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class PayoutOwners(Protocol):
    """Record of whose the payments are that a node keeps nothing of ours with."""

    async def claim(self, payment_hash: str, actor_id: str) -> str:
        """Return the owner of payments to this hash: the actor that claimed it first, which it stays for good.

        Raises `TransientError`: then nothing may be ordered, as the claim may be missing from the store.
        """
        ...

    async def owners_of(self, payment_hashes: Sequence[str]) -> Mapping[str, str]:
        """Return the owners of these payment hashes; unclaimed ones are left out. Raises `TransientError`."""
        ...


class Bindings(Protocol):
    """Owners of the invoices that were made ahead, whose data at the node does not name an actor."""

    async def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        """Make an invoice this actor's, for `keep_ms` or, once it was paid, for good.

        Return False when the invoice belongs to an actor already, or was paid before it had an owner. Raises
        `TransientError`: then no client may be shown the invoice.
        """
        ...

    async def owners_of_paid(self, payment_hashes: Sequence[str]) -> Mapping[str, str | None]:
        """Return the owners of these paid invoices.

        The answer is kept for good, as the node may report a payment again at any time. None stands for an unowned
        invoice, which can't be bound any more; one that was reported so before is left out. Raises `TransientError`.
        """
        ...


class InvoiceKey(Protocol):
    """Key of the store's, by which its invoices are told from those of others. All servers on one store share it."""

    async def read(self) -> bytes | None:
        """Return the key; None where no invoice was made yet. Raises `TransientError`."""
        ...

    async def made(self) -> bytes:
        """Return the key, and make it where there is none. Raises `TransientError`."""
        ...


class Destinations(Protocol):
    """Port of the servers of refunds' destinations, which anybody may run: what they say is checked, and pays nothing.

    Two questions about the same sum have two invoices as answers. So an order is resolved once, and what was resolved
    is journaled before it is paid.
    """

    async def resolve(self, destination: Destination, amount_msat: Msat, network: str | None = None) -> PayoutTarget:
        """Have the destination make an invoice over exactly this sum. Nothing is paid.

        `network`: that of our node, as `network_of` an invoice of ours names it; without it, it is not compared. Raises
        `DestinationError` with the reason, `TransientError` while the destination's server can't be reached.
        """
        ...

    async def close(self) -> None:
        """End connections."""
        ...

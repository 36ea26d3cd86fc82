"""Lightning node of a run, which keeps books of its own: what came in, and what it has paid out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

from ...actors.domain.money import Msat
from ...actors.domain.payments.invoices import Invoice, Settlement
from ...actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...actors.ports import InvoiceOrder, PermanentError, TransientError
from .loop import Process, present
from .world import Fault, World, settle

T = TypeVar("T")
_PATIENCE_S: Final = 5.0
# A node that knows nothing of a payment is believed after some time. This must be less, by a margin for clocks that
# jump.
_LATE_MAX_S: Final = 120.0
_EVALUATION: Final = "Satmeter: evaluation"
_HELD_UP_EVERY: Final = 5
_HELD_UP_MAX_S: Final = 300


class Watcher(Protocol):
    """Books that are kept beside the node's."""

    def received(self, payment_hash: str, amount_msat: int) -> None:
        """Note the payment of an invoice."""
        ...

    def payout_called(self, payment_hash: str, actor_id: str, fee_limit_msat: int) -> None:
        """Note an order to the node to pay, and what the route may cost by it."""
        ...

    def paid_out(self, payment_hash: str, actor_id: str, amount_msat: int, fee_msat: int) -> None:
        """Note a payment that the node has made."""
        ...


@dataclass(slots=True)
class Incoming:
    """An invoice of ours at the node. `paid_msat` is None while it is unpaid."""

    order: InvoiceOrder
    number: int
    invoice: Invoice
    paid_msat: int | None = None


@dataclass(slots=True)
class Outgoing:
    """A payment that the node was ordered to make."""

    target: PayoutTarget
    actor_id: str
    status: PayoutStatus
    fee_msat: int = 0
    called_failed: bool = False


@dataclass(eq=False)
class SimulatedNode:
    """Node of a run; `NodeAccess` is the way to it from a process of ours."""

    world: World
    watcher: Watcher
    incoming: dict[str, Incoming] = field(default_factory=dict)
    outgoing: dict[str, Outgoing] = field(default_factory=dict)
    listeners: list[asyncio.Queue[str | None]] = field(default_factory=list)
    coming: set[str] = field(default_factory=set)
    """Payments whose orders reach the node late."""
    away: bool = False
    wallet_count: int = 0
    keeps_owners: bool = True
    """True if an actor's id is kept with a payment. Without it, a payment is told to all who ask."""
    shared: PayoutTarget | None = None
    """Invoice of the last client, which the next one may show as its own."""

    # Actions of wallets

    def pay(self, payment_hash: str, amount_msat: int) -> bool:
        """Pay an invoice from a client's wallet, once; return False when it can't be paid any more."""
        found, now_ms = self.incoming[payment_hash], self.world.now_ms()
        if found.paid_msat is not None or now_ms >= found.invoice.expires_at_ms:
            return False
        if self._held_up(found):
            self.world.later(13 * found.number % _HELD_UP_MAX_S, self._settled, payment_hash, amount_msat)
            return True
        return self._settled(payment_hash, amount_msat)

    def _held_up(self, found: Incoming) -> bool:
        """Return whether a job's first payment is on its way until long after the invoice's expiry."""
        first = found.order.memo.startswith(_EVALUATION) and found.number % _HELD_UP_EVERY == 0
        return first and Fault.WALLETS in self.world.faults and not self.world.calm

    def _settled(self, payment_hash: str, amount_msat: int) -> bool:
        found = self.incoming[payment_hash]
        if found.paid_msat is not None:
            return False
        found.paid_msat = amount_msat
        self.watcher.received(payment_hash, amount_msat)
        self.world.tell(f"wallet pays {payment_hash[:8]} with {amount_msat} msat")
        self._hint(payment_hash)
        return True

    def wallet_invoice(self, amount_sats: int) -> PayoutTarget:
        """Make an invoice of a client's wallet."""
        self.wallet_count += 1
        payment_hash = f"{self.wallet_count:08x}" + "f" * 56
        return PayoutTarget(f"lnbcrt1{payment_hash}", payment_hash, Msat.from_sats(amount_sats))

    def strangers_invoice(self, amount_sats: int) -> PayoutTarget:
        """Make an invoice of this node's wallet for a stranger, whose money is not an actor's."""
        order = InvoiceOrder(amount_sats, "", 3_600, "")
        invoice = self.create(order)
        return PayoutTarget(invoice.payment_request, invoice.payment_hash, Msat.from_sats(amount_sats))

    @property
    def next_is_own(self) -> bool:
        """Return whether the next wallet that makes an invoice is at the node itself: each fourth is."""
        return (self.wallet_count + 1) % 4 == 0

    def is_own(self, payment_hash: str) -> bool:
        """Return whether an invoice is of a wallet at the node itself, which pays it without a route."""
        return payment_hash in self.incoming or int(payment_hash[:8], 16) % 4 == 0

    def hang_up(self) -> None:
        """Break all connections for hints."""
        for listener in self.listeners:
            listener.put_nowait(None)
        self.listeners.clear()

    def _hint(self, payment_hash: str) -> None:
        for listener in self.listeners:
            if not self.world.strikes(Fault.HINTS, 0.4):
                listener.put_nowait(payment_hash)
            if self.world.strikes(Fault.HINTS, 0.2):
                listener.put_nowait(self.world.chance.choice(list(self.incoming)))

    # Answers of the node

    def create(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice."""
        number = len(self.incoming) + 1
        payment_hash = f"{number:08x}" + "0" * 56
        expires_at_ms = self.world.now_ms() + order.expiry_s * 1_000
        invoice = Invoice(f"lnbcrt1{payment_hash}", payment_hash, order.amount_sats, expires_at_ms)
        self.incoming[payment_hash] = Incoming(order, number, invoice)
        return invoice

    def find(self, payment_hash: str) -> Settlement | None:
        """Return the settled payment with this hash, or None."""
        found = self.incoming.get(payment_hash)
        if found is None or found.paid_msat is None:
            return None
        return Settlement(payment_hash, Msat(found.paid_msat), found.order.actor_id or None)

    def newest(self, limit: int, offset: int) -> list[Settlement]:
        """Return those of the newest payments that were settled."""
        newest = list(reversed(self.incoming))[offset : offset + limit]
        return [settlement for payment_hash in newest if (settlement := self.find(payment_hash)) is not None]

    def send(self, target: PayoutTarget, actor_id: str, fee_limit_msat: int) -> PayoutReport:
        """Begin a payment, whose route may cost more than its limit.

        A second call with the same invoice makes a second payment: the node does not protect us from that.
        """
        chance, payment_hash = self.world.chance, target.payment_hash
        self.world.tell(f"node is told to pay {payment_hash[:8]} for {actor_id}")
        self.coming.discard(payment_hash)
        known = self.outgoing.get(payment_hash)
        if known is not None and known.actor_id != actor_id:
            return PayoutReport(PayoutStatus.FAILED)
        if known is None and self.world.strikes(Fault.PAYOUT_FAILS, 0.1):
            return PayoutReport(PayoutStatus.FAILED, refusal=chance.choice(list(PayoutRefusal)))
        self.watcher.payout_called(payment_hash, actor_id, fee_limit_msat)
        payment = self.outgoing[payment_hash] = Outgoing(target, actor_id, PayoutStatus.PENDING)
        if self.world.strikes(Fault.PAYOUT_FAILS, 0.3):
            ends: Callable[[], None] = partial(self._end, payment, paid=False)
        else:
            fee_msat = chance.choice([0, 1, fee_limit_msat // 2, fee_limit_msat, fee_limit_msat + 500])
            payment.fee_msat = 0 if self.is_own(payment_hash) else fee_msat
            ends = partial(self._end, payment, paid=True)
        if self.world.strikes(Fault.NODE_LATE, 0.4):
            self.world.later(chance.uniform(0.5, 60), ends)
        else:
            ends()
        if self.world.strikes(Fault.NODE_WRONG, 0.3):
            wrong = [PayoutStatus.PENDING, PayoutStatus.ABSENT]
            said = chance.choice(wrong + [PayoutStatus.FAILED] * 2)
            payment.called_failed = said is PayoutStatus.FAILED
            return PayoutReport(said)
        return PayoutReport(payment.status, Msat(payment.fee_msat))

    def sent(self, limit: int, offset: int) -> list[SentPayment]:
        """Return the payments that the node has made, the newest first."""
        paid = [(h, o) for h, o in reversed(self.outgoing.items()) if o.status is PayoutStatus.PAID]
        return [
            SentPayment(h, h, o.target.amount_msat, Msat(o.fee_msat), o.actor_id if self.keeps_owners else "")
            for h, o in paid[offset : offset + limit]
        ]

    def balance(self) -> Msat:
        """Return what came in, less what went out or is about to."""
        received_msat = sum(incoming.paid_msat or 0 for incoming in self.incoming.values())
        gone = [o for o in self.outgoing.values() if o.status is not PayoutStatus.FAILED]
        return Msat(max(received_msat - sum(o.target.amount_msat.value + o.fee_msat for o in gone), 0))

    def _end(self, payment: Outgoing, *, paid: bool) -> None:
        payment.status = PayoutStatus.PAID if paid else PayoutStatus.FAILED
        target = payment.target
        if paid:
            if (ours := self.incoming.get(target.payment_hash)) is not None:
                ours.paid_msat = target.amount_msat.value
            self.watcher.paid_out(target.payment_hash, payment.actor_id, target.amount_msat.value, payment.fee_msat)
        self.world.tell(f"node ends its payment of {target.payment_hash[:8]}: {payment.status}")

    def look_up(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Return what has become of a payment.

        A payment that is still under way may be called failed, unless the answer to its call did so.
        """
        payment = self.outgoing.get(target.payment_hash)
        if payment is None:
            return PayoutReport(PayoutStatus.ABSENT)
        if self.keeps_owners and payment.actor_id != actor_id:
            return PayoutReport(PayoutStatus.FAILED)
        pending = payment.status is PayoutStatus.PENDING
        if pending and not payment.called_failed and self.world.strikes(Fault.NODE_WRONG, 0.3):
            return PayoutReport(PayoutStatus.FAILED)
        return PayoutReport(payment.status, Msat(payment.fee_msat))


class NodeAccess:
    """`Lightning` with all that can go wrong between a process and the node."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self._world = node.world

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice. Raises `TransientError`, `PermanentError`."""
        if self._world.strikes(Fault.NODE_LOSS, 0.02):
            raise PermanentError("the node refuses")
        return await self._ask(partial(self._node.create, order))

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """Return the settled payment with this hash, or None. Raises `TransientError`."""
        return await self._ask(partial(self._node.find, payment_hash))

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """Return the settled payments among the newest. Raises `TransientError`."""
        return await self._ask(partial(self._node.newest, limit, offset))

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Send a payment, once. The call may arrive long after it was given up. Raises `TransientError`."""
        delay_s = 0.0
        if self._world.strikes(Fault.NODE_LATE, 0.25):
            delay_s = self._world.chance.uniform(0, _LATE_MAX_S)
            self._node.coming.add(target.payment_hash)
        return await self._ask(partial(self._node.send, target, actor_id, fee_limit_msat.value), delay_s)

    async def is_own(self, target: PayoutTarget) -> bool:
        """Return whether the node made the invoice. Raises `TransientError`."""
        return await self._ask(lambda: self._node.is_own(target.payment_hash))

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Return what has become of a payment. Raises `TransientError`."""
        # A process that asks about a payment still on its way asks at the worst of times.
        stalls = 0.2 if target.payment_hash in self._node.coming else 0.02
        return await self._ask(partial(self._node.look_up, target, actor_id), stalls=stalls)

    async def received(self, payment_hash: str) -> bool:
        """Return whether the node's one wallet knows the payment. Raises `TransientError`."""
        return await self._ask(lambda: self._node.find(payment_hash) is not None)

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """Return the payments of ours that were made, the newest first. Raises `TransientError`."""
        return await self._ask(partial(self._node.sent, limit, offset))

    async def balance(self) -> Msat:
        """Return what the wallet holds, less what payments under way have set aside. Raises `TransientError`."""
        return await self._ask(self._node.balance)

    async def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes that something claims were paid.

        Raises `TransientError` when the connection breaks.
        """
        if self._node.away:
            raise TransientError("the node is away")
        listener: asyncio.Queue[str | None] = asyncio.Queue()
        self._node.listeners.append(listener)
        while (payment_hash := await listener.get()) is not None:
            yield payment_hash
        raise TransientError("the connection broke")

    async def check(self) -> None:
        """Raise `TransientError` when the node can't be reached."""
        await self._ask(lambda: None)

    async def trouble(self) -> str | None:
        """Return None: this node takes every key."""
        return None

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""

    async def _ask(self, operation: Callable[[], T], delay_s: float = 0.0, stalls: float = 0.0) -> T:
        """Ask the node. Raises `TransientError` when the question or the answer got lost, or came too late.

        `stalls`: the probability that the asking process stands still for minutes before it has its answer.
        """
        world, chance = self._world, self._world.chance
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        lost = world.strikes(Fault.NODE_LOSS, 0.05) or self._node.away
        if not (lost and (self._node.away or chance.happens(0.5))):
            carry_out = partial(self._carry_out, operation, answer, not lost, present(), stalls)
            world.later(delay_s + chance.uniform(0.002, 0.03), carry_out)
        elif not self._node.away:
            raise TransientError("the node refused the connection")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await answer
        except TimeoutError:
            raise TransientError("the node did not answer in time") from None

    def _carry_out(
        self,
        operation: Callable[[], T],
        answer: asyncio.Future[T],
        answered: bool,
        asker: Process | None,
        stalls: float,
    ) -> None:
        self._world.stall(asker, stalls or 0.001, minutes=stalls > 0, everywhere=stalls > 0)
        settle(answer if answered else self._world.loop.create_future(), operation)

"""Stand-ins for what lies outside, for tests that need to hold it up, break it, or look at what it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from satmeter.actors.domain.answers import Completion, Evaluation, Verdict
from satmeter.actors.domain.invoices import Invoice, Settlement
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.pricing import BtcPrice, Size, Usage
from satmeter.actors.ports import InvoiceOrder, PortError

USAGE = Usage(input_tokens=100, output_tokens=200)


class Gate:
    """Lets callers through while open; a test closes it to hold them, and waits until they stand before it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.arrived = asyncio.Semaphore(0)

    def close(self) -> None:
        """Holds whoever comes from now on."""
        self._open.clear()

    def open(self) -> None:
        """Lets all go on."""
        self._open.set()

    async def wait_for_arrival(self, timeout_s: float = 5.0) -> None:
        """Returns once one more caller has come."""
        async with asyncio.timeout(timeout_s):
            await self.arrived.acquire()

    async def pass_through(self) -> None:
        """For the fake: comes to the gate."""
        self.arrived.release()
        await self._open.wait()


@dataclass
class FakeLightning:
    """A node in memory. `fault`, while set, is raised by every call; a fault in `hint_queue` breaks the connection.

    What is paid without an order is somebody else's payment in the wallet.
    """

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    fault: Exception | None = None
    gate: Gate = field(default_factory=Gate)
    orders: dict[str, InvoiceOrder] = field(default_factory=dict)
    paid_msat: dict[str, int] = field(default_factory=dict)
    hint_queue: asyncio.Queue[str | PortError] = field(default_factory=asyncio.Queue)
    hint_connections: int = 0
    calls: list[str] = field(default_factory=list)

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        await self._called("create_invoice")
        payment_hash = hashlib.sha256(f"{len(self.orders)}:{id(self)}".encode()).hexdigest()
        self.orders[payment_hash] = order
        expires_at_ms = self.now_ms() + order.expiry_s * 1_000
        return Invoice(f"lnbcrt1{payment_hash}", payment_hash, order.amount_sats, expires_at_ms)

    def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """The invoice is paid, by its amount or another one. Nobody is told."""
        self.paid_msat[payment_hash] = amount_msat or self.orders[payment_hash].amount_sats * 1_000

    def _settlement(self, payment_hash: str) -> Settlement:
        order = self.orders.get(payment_hash)
        return Settlement(payment_hash, Msat(self.paid_msat[payment_hash]), order.actor_id if order else None)

    async def lookup(self, payment_hash: str) -> Settlement | None:
        await self._called("lookup")
        return self._settlement(payment_hash) if payment_hash in self.paid_msat else None

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        await self._called("settlements")
        newest = list(reversed(self.paid_msat))[offset : offset + limit]
        return [self._settlement(payment_hash) for payment_hash in newest]

    async def hints(self) -> AsyncIterator[str]:
        self.hint_connections += 1
        while True:
            hint = await self.hint_queue.get()
            if isinstance(hint, PortError):
                raise hint
            yield hint

    async def check(self) -> None:
        await self._called("check")

    async def close(self) -> None:
        pass

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        await self.gate.pass_through()
        if self.fault is not None:
            raise self.fault


@dataclass
class FakeModel:
    """A model that says what a test wants. Outcomes in the queues come first, then the defaults."""

    verdict: Verdict = field(default_factory=lambda: Verdict(True, "fine", Size.SMALL))
    text: str = "the answer"
    usage: Usage | None = USAGE
    faults: list[PortError] = field(default_factory=list)
    gate: Gate = field(default_factory=Gate)
    evaluated: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)

    async def evaluate(self, request: str) -> Evaluation:
        self.evaluated.append(request)
        await self._called()
        return Evaluation(self.verdict, "eval-model", self.usage)

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        self.completed.append(request)
        await self._called()
        return Completion(self.text, model, self.usage, "end_turn")

    async def close(self) -> None:
        pass

    async def _called(self) -> None:
        await self.gate.pass_through()
        if self.faults:
            raise self.faults.pop(0)


@dataclass
class FixedPrices:
    """A price that does not move."""

    price: BtcPrice

    async def current(self) -> BtcPrice:
        return self.price


@dataclass
class FakeLimits:
    """Limits that note what was asked and refuse when told to."""

    refuse_for_s: int | None = None
    reserved: list[tuple[str, str]] = field(default_factory=list)
    released: list[tuple[str, str]] = field(default_factory=list)

    async def hit(self, name: str, client: str, limit: int, window_s: int) -> int | None:
        return self.refuse_for_s

    async def reserve(self, client: str, invoice_of: str, limit: int, until_ms: int) -> int | None:
        self.reserved.append((client, invoice_of))
        return self.refuse_for_s

    async def release(self, client: str, invoice_of: str) -> None:
        self.released.append((client, invoice_of))

"""Stand-ins for what lies outside, for tests that need to hold it up, break it, or look at what it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec.structs import replace

from satmeter.actors.domain.llm.answers import Completion, Evaluation, StreamPart, TextDelta, UsageSoFar, Verdict
from satmeter.actors.domain.llm.relays import Give, RelayBegun, RelayBytes, RelayEnd, RelayPart, RelaySoFar
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Invoice, Settlement
from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from satmeter.actors.domain.pricing import BtcPrice, Size, Usage
from satmeter.actors.model_health.outage import ModelWord
from satmeter.actors.ports import InvoiceOrder, PortError, Standing
from tests.helpers.patience import PATIENCE_S

USAGE = Usage(input_tokens=100, output_tokens=200)
JSON_HEADERS = {"content-type": "application/json"}
STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8"}


@dataclass
class FakeSolvency:
    """Standing of the wallet, as the treasury reported it."""

    standing: Standing | None = None

    async def current(self) -> Standing | None:
        return self.standing


@dataclass
class FakeModelNews:
    """News of the model provider, set by the test."""

    word: ModelWord = field(default_factory=ModelWord)

    async def current(self, longest_s: float = 1.0, model: str | None = None) -> ModelWord:
        return self.word

    async def upstreams(self) -> Mapping[str, ModelWord]:
        return {"one": self.word}


class Gate:
    """Lets callers through while open; a test closes it to hold them, and waits until they stand before it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.arrived = asyncio.Semaphore(0)

    def close(self) -> None:
        """Hold callers from now on."""
        self._open.clear()

    def open(self) -> None:
        """Lets all go on."""
        self._open.set()

    async def wait_for_arrival(self, timeout_s: float = PATIENCE_S) -> None:
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

    Payouts are paid, unless `payout_script` has another outcome for the next one. With `pays_before_fault` a call that
    breaks, or is broken off, has paid all the same. `outgoing` is what the node says of a payment hash afterwards.
    """

    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    fault: Exception | None = None
    gate: Gate = field(default_factory=Gate)
    orders: dict[str, InvoiceOrder] = field(default_factory=dict)
    paid_msat: dict[str, int] = field(default_factory=dict)
    hint_queue: asyncio.Queue[str | PortError] = field(default_factory=asyncio.Queue)
    hint_connections: int = 0
    calls: list[str] = field(default_factory=list)
    outgoing: dict[str, PayoutReport] = field(default_factory=dict)
    payers: dict[str, str] = field(default_factory=dict)
    payout_orders: list[tuple[PayoutTarget, str]] = field(default_factory=list)
    fee_limits_msat: list[int] = field(default_factory=list)
    payout_script: list[PayoutReport | Exception] = field(default_factory=list)
    pays_before_fault: bool = False
    wallet_msat: int = 0
    troubled: str | None = None
    own: set[str] = field(default_factory=set)

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

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        self.payout_orders.append((target, actor_id))
        self.fee_limits_msat.append(fee_limit_msat.value)
        try:
            await self._called("pay_out")
            outcome = self.payout_script.pop(0) if self.payout_script else PayoutReport(PayoutStatus.PAID)
            if isinstance(outcome, Exception):
                raise outcome
        except BaseException:
            if self.pays_before_fault:
                self._send(target, actor_id, PayoutReport(PayoutStatus.PAID))
            raise
        return self._send(target, actor_id, outcome)

    def _send(self, target: PayoutTarget, actor_id: str, outcome: PayoutReport) -> PayoutReport:
        """Answer as the node does; an invoice that it knows already has an unknown outcome, as with LNbits."""
        if target.payment_hash in self.outgoing:
            return PayoutReport(PayoutStatus.PENDING)
        self.outgoing[target.payment_hash] = outcome
        self.payers[target.payment_hash] = actor_id
        return outcome

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        await self._called("payout")
        if self.payers.get(target.payment_hash, actor_id) != actor_id:
            return PayoutReport(PayoutStatus.FAILED)
        return self.outgoing.get(target.payment_hash, PayoutReport(PayoutStatus.ABSENT))

    async def is_own(self, target: PayoutTarget) -> bool:
        await self._called("is_own")
        return target.payment_hash in self.own

    async def received(self, payment_hash: str) -> bool:
        return True

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        await self._called("sent")
        targets = {target.payment_hash: (target, actor_id) for target, actor_id in self.payout_orders}
        found = [
            SentPayment(
                payment_hash,
                payment_hash,
                targets[payment_hash][0].amount_msat,
                report.fee_msat,
                targets[payment_hash][1],
            )
            for payment_hash, report in self.outgoing.items()
            if report.status is PayoutStatus.PAID
        ]
        return found[::-1][offset : offset + limit]

    async def balance(self) -> Msat:
        await self._called("balance")
        return Msat(self.wallet_msat)

    async def hints(self) -> AsyncIterator[str]:
        self.hint_connections += 1
        while True:
            hint = await self.hint_queue.get()
            if isinstance(hint, PortError):
                raise hint
            yield hint

    async def check(self) -> None:
        await self._called("check")

    async def trouble(self) -> str | None:
        await self._called("trouble")
        return self.troubled

    async def close(self) -> None:
        pass

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        await self.gate.pass_through()
        if self.fault is not None:
            raise self.fault


@dataclass
class FakeModel:
    """A model that says what a test wants. Outcomes in the queues come first, then the defaults.

    A streamed answer consists of `pieces`, each of which passes `piece_gate`; `stream_fault`, while set, breaks it
    after `fault_after` of them. `stream_closed` counts streams that were closed or cancelled before their end.
    """

    verdict: Verdict = field(default_factory=lambda: Verdict(True, "fine", Size.SMALL))
    text: str = "the answer"
    usage: Usage | None = USAGE
    faults: list[PortError] = field(default_factory=list)
    gate: Gate = field(default_factory=Gate)
    evaluated: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    pieces: list[str] = field(default_factory=lambda: ["the ", "answer"])
    piece_gate: Gate = field(default_factory=Gate)
    stream_fault: PortError | None = None
    fault_after: int = 0
    streamed: list[str] = field(default_factory=list)
    stream_closed: int = 0
    relayed: list[bytes] = field(default_factory=list)
    counted: list[bytes] = field(default_factory=list)
    counts: int = 100
    count_fault: PortError | None = None

    def prepare(self) -> None:
        pass

    async def evaluate(self, request: str, *, model: str = "") -> Evaluation:
        self.evaluated.append(request)
        await self._called()
        return Evaluation(self.verdict, "eval-model", self.usage)

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        self.completed.append(request)
        await self._called()
        return Completion(self.text, model, self.usage, "end_turn")

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        self.streamed.append(request)
        try:
            await self._called()
            if self.usage is not None:
                yield UsageSoFar(replace(self.usage, output_tokens=1))
            async with aclosing(self._piece_by_piece()) as pieces:
                async for piece in pieces:
                    yield TextDelta(piece)
        except (GeneratorExit, asyncio.CancelledError):
            self.stream_closed += 1
            raise
        yield Completion("".join(self.pieces), model, self.usage, "end_turn")

    async def _piece_by_piece(self) -> AsyncGenerator[str, None]:
        for given, piece in enumerate(self.pieces):
            self._break_after(given)
            await self.piece_gate.pass_through()
            await asyncio.sleep(0)  # as a real one does, even when nobody holds it up
            yield piece
        self._break_after(len(self.pieces))

    def _break_after(self, given: int) -> None:
        if self.stream_fault is not None and given == self.fault_after:
            raise self.stream_fault

    async def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        self.relayed.append(body)
        try:
            await self._called()
            if not stream:
                yield RelayEnd(200, JSON_HEADERS, self.text.encode(), self.usage, 4)
                return
            yield RelayBegun(STREAM_HEADERS)
            async with aclosing(self._piece_by_piece()) as pieces:
                async for piece in pieces:
                    yield RelayBytes(piece.encode())
                    yield RelaySoFar(self.usage and replace(self.usage, output_tokens=1), unseen_tokens=4)
        except (GeneratorExit, asyncio.CancelledError):
            self.stream_closed += 1
            raise
        yield RelayEnd(200, STREAM_HEADERS, b"", self.usage, 4)

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, model: str = "", beta: bool) -> RelayEnd:
        self.counted.append(body)
        if self.count_fault is not None:
            raise self.count_fault
        return RelayEnd(200, JSON_HEADERS, b'{"input_tokens":%d}' % self.counts, None)

    async def prompt_tokens(self, request: str, *, model: str | None = None, max_tokens: int | None = 0) -> int:
        self.counted.append(request.encode())
        if self.count_fault is not None:
            raise self.count_fault
        return self.counts

    async def models(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _called(self) -> None:
        await self.gate.pass_through()
        if self.faults:
            raise self.faults.pop(0)


@dataclass
class FakeBindings:
    """Owners of invoices in memory. `fault`, while set, is raised by every call."""

    owners: dict[str, str] = field(default_factory=dict)
    fault: Exception | None = None
    asked: list[Sequence[str]] = field(default_factory=list)

    async def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        if self.fault is not None:
            raise self.fault
        return self.owners.setdefault(payment_hash, actor_id) == actor_id

    async def owners_of_paid(self, payment_hashes: Sequence[str]) -> Mapping[str, str | None]:
        self.asked.append(payment_hashes)
        if self.fault is not None:
            raise self.fault
        known = {payment_hash: self.owners.get(payment_hash) for payment_hash in payment_hashes}
        self.owners.update((payment_hash, "-") for payment_hash, owner in known.items() if owner is None)
        return {payment_hash: owner for payment_hash, owner in known.items() if owner != "-"}


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

    async def hold_bytes(self, actor_id: str, kept: Sequence[tuple[int, int]], bounds: Mapping[str, int]) -> str | None:
        return None

    async def release(self, client: str, invoice_of: str) -> None:
        self.released.append((client, invoice_of))

"""A settlement watch under test, with a node, actors and a time that the test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import InvoiceOrder
from satmeter.actors.services.treasury import Treasury
from tests.helpers.fakes import FakeBindings, FakeLightning
from tests.helpers.patience import PATIENCE_S

SWEEP_S = 5.0


class Time:
    """A clock that stands still until it is moved, and the pauses that end by it. Seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._pauses: list[tuple[float, asyncio.Future[None]]] = []

    def clock(self) -> float:
        return self.now_s

    async def pause(self, delay_s: float) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pauses.append((self.now_s + delay_s, ended))
        await ended

    async def advance(self, duration_s: float, step_s: float = 0.25) -> None:
        """Lets time pass in steps, and at each of them everything happen that then can."""
        until_s = self.now_s + duration_s
        await let_all_run()
        while self.now_s < until_s:
            self.now_s = min(self.now_s + step_s, until_s)
            over = [ended for at_s, ended in self._pauses if at_s <= self.now_s]
            self._pauses = [(at_s, ended) for at_s, ended in self._pauses if at_s > self.now_s]
            for ended in over:
                if not ended.done():
                    ended.set_result(None)
            await let_all_run()


async def let_all_run() -> None:
    """Until no task has anything to do but wait for time, in a world without input and output."""
    for _ in range(100):
        await asyncio.sleep(0)


class Actors:
    """Notes what they are told. `faults` are raised first, for the actors that they name."""

    def __init__(self) -> None:
        self.told: list[Settlement] = []
        self.attempts: list[str] = []
        self.faults: dict[str, list[Exception]] = {}
        self.stuck: set[str] = set()

    async def deliver(self, settlement: Settlement) -> None:
        actor_id = settlement.actor_id or ""
        self.attempts.append(settlement.payment_hash)
        if actor_id in self.stuck:
            await asyncio.Event().wait()
        if faults := self.faults.get(actor_id):
            raise faults.pop(0)
        self.told.append(settlement)

    @property
    def credited(self) -> list[str]:
        return [settlement.payment_hash for settlement in self.told]


class World:
    """A node, its actors and the time they live in."""

    def __init__(self) -> None:
        self.node = FakeLightning(now_ms=lambda: 0)
        self.bindings = FakeBindings()
        self.actors = Actors()
        self.time = Time()

    @asynccontextmanager
    async def watched(self, **limits: Any) -> AsyncIterator[Treasury]:
        """A treasury that runs. Yields after its first sweep, if the node lets it have one."""
        treasury = Treasury(
            self.node,
            self.bindings,
            self.actors.deliver,
            **{"sweep_interval_s": SWEEP_S, **limits},
            clock=self.time.clock,
            pause=self.time.pause,
        )
        running = asyncio.create_task(treasury.run())
        await let_all_run()
        try:
            yield treasury
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running], timeout=PATIENCE_S)
            assert running.cancelled()

    async def invoice(self, actor_id: str = "job_a") -> str:
        return (await self.node.create_invoice(InvoiceOrder(21, "", 600, actor_id))).payment_hash

    async def paid(self, actor_id: str = "job_a") -> str:
        payment_hash = await self.invoice(actor_id)
        self.node.pay(payment_hash)
        return payment_hash

    def hint(self, *payment_hashes: str) -> None:
        for payment_hash in payment_hashes:
            self.node.hint_queue.put_nowait(payment_hash)

    def asked(self, call: str) -> int:
        return self.node.calls.count(call)

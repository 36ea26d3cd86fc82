"""The pool of invoices made ahead: as many as are wanted, never in anybody's way, and each good for its whole time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import pytest
from structlog.testing import capture_logs

from satmeter.actors.domain.payments.invoices import Invoice
from satmeter.actors.effects.invoice_pool import InvoicePool
from satmeter.actors.ports import InvoiceOrder, PermanentError, TransientError, Urgency
from tests.helpers.fakes import FakeBindings, FakeLightning
from tests.helpers.patience import PATIENCE_S
from tests.helpers.settlement import Time, let_all_run

EXPIRY_S: Final = 3_600
START_MS: Final = 1_800_000_000_000


@dataclass
class Bench:
    """A pool with a node, a store of owners and a time that the test holds in its hands."""

    ahead_max: int = 8
    expiry_s: int = EXPIRY_S
    memo: str = "evaluation"
    time: Time = field(default_factory=Time)
    bindings: FakeBindings = field(default_factory=FakeBindings)
    node: FakeLightning = field(init=False)
    pool: InvoicePool = field(init=False)
    number: int = 0

    def __post_init__(self) -> None:
        self.node = FakeLightning(now_ms=self.now_ms)
        self.pool = InvoicePool(
            self.node,
            self.bindings,
            ahead_max=self.ahead_max,
            now_ms=self.now_ms,
            clock=self.time.clock,
            pause=self.time.pause,
        )

    def now_ms(self) -> int:
        return START_MS + int(self.time.now_s * 1_000)

    async def order(self) -> Invoice:
        """An invoice for another job, and the time that the background needs."""
        self.number += 1
        job_id = f"job_{self.number}"
        invoice = await self.pool.create_invoice(InvoiceOrder(10, self.memo, self.expiry_s, job_id))
        named = self.node.orders[invoice.payment_hash].actor_id
        assert job_id == (self.bindings.owners[invoice.payment_hash] if self.ahead(invoice) else named)
        await let_all_run()
        return invoice

    def ahead(self, invoice: Invoice) -> bool:
        return self.node.orders[invoice.payment_hash].urgency is Urgency.AHEAD

    @property
    def made_ahead(self) -> int:
        return sum(order.urgency is Urgency.AHEAD for order in self.node.orders.values())


async def test_nothing_is_made_before_anybody_wants_something() -> None:
    bench = Bench()
    await bench.time.advance(120, step_s=10)
    assert bench.node.calls == []


async def test_the_first_is_ordered_and_the_next_lie_ready() -> None:
    bench = Bench()
    assert not bench.ahead(await bench.order())
    found = [await bench.order() for _ in range(5)]
    assert all(map(bench.ahead, found))
    assert len({invoice.payment_hash for invoice in found}) == 5


async def test_there_are_never_more_ready_than_were_wanted_in_the_last_minute_or_are_allowed() -> None:
    bench = Bench(ahead_max=8)
    for wanted in range(1, 21):
        await bench.order()
        given_out = len(bench.bindings.owners)
        assert bench.made_ahead - given_out == min(wanted, 8)


async def test_an_idle_server_makes_none() -> None:
    bench = Bench()
    for _ in range(4):
        await bench.order()
    made = len(bench.node.orders)
    await bench.time.advance(600, step_s=50)
    assert len(bench.node.orders) == made


async def test_with_zero_allowed_each_is_ordered_when_it_is_wanted() -> None:
    bench = Bench(ahead_max=0)
    for _ in range(5):
        assert not bench.ahead(await bench.order())
    assert bench.made_ahead == 0


async def test_whoever_gets_one_has_at_least_the_whole_time_that_was_ordered() -> None:
    bench = Bench()
    for _ in range(40):
        for _ in range(3):
            invoice = await bench.order()
            assert invoice.expires_at_ms >= bench.now_ms() + EXPIRY_S * 1_000
        await bench.time.advance(50, step_s=50)
    assert bench.made_ahead > 50


async def test_one_that_lay_too_long_is_dropped_unseen_and_belongs_to_nobody() -> None:
    bench = Bench()
    await bench.order()
    (old,) = [payment_hash for payment_hash, order in bench.node.orders.items() if order.urgency is Urgency.AHEAD]
    await bench.time.advance(301, step_s=50)
    assert not bench.ahead(await bench.order())
    assert old not in bench.bindings.owners
    assert all(invoice.payment_hash != old for invoice in [await bench.order() for _ in range(5)])


async def test_invoices_of_a_short_life_are_not_made_ahead() -> None:
    bench = Bench(expiry_s=30)
    for _ in range(5):
        assert not bench.ahead(await bench.order())
    assert bench.made_ahead == 0


async def test_a_node_whose_clock_is_behind_gives_none_ahead_and_is_not_asked_again_at_once() -> None:
    bench = Bench()
    bench.node.now_ms = lambda: bench.now_ms() - 600_000
    for _ in range(20):
        assert not bench.ahead(await bench.order())
    assert bench.made_ahead == 1


@pytest.mark.parametrize(
    "fault", [TransientError("down"), PermanentError("wrong key"), RuntimeError("a defect")], ids=repr
)
async def test_a_node_that_is_down_is_left_alone_for_a_while_and_used_again_later(fault: Exception) -> None:
    bench = Bench()
    await bench.order()
    bench.node.fault = fault
    assert bench.ahead(await bench.order())  # The one that lay ready does not need the node.
    with pytest.raises(type(fault)):
        await bench.order()
    calls = len(bench.node.calls)
    with capture_logs():  # A reader of the log is spared a defect's traces here.
        await bench.time.advance(50, step_s=1)
    assert 0 < len(bench.node.calls) - calls < 10
    bench.node.fault = None
    await bench.order()
    await bench.time.advance(30, step_s=5)
    assert bench.ahead(await bench.order())


async def test_whoever_wants_one_does_not_wait_for_those_that_are_being_made() -> None:
    bench = Bench()
    await bench.order()
    await bench.order()
    held = asyncio.Event()
    inner = bench.node.create_invoice

    async def create_invoice(order: InvoiceOrder) -> Invoice:
        if order.urgency is Urgency.AHEAD:
            await held.wait()
        return await inner(order)

    bench.node.create_invoice = create_invoice  # type: ignore[method-assign]
    for _ in range(10):
        await asyncio.wait_for(bench.order(), PATIENCE_S)
    assert bench.made_ahead == 3
    held.set()
    await bench.pool.close()


async def test_they_are_made_one_after_the_other_and_behind_all_others() -> None:
    bench = Bench()
    bench.node.gate.close()
    ordering = [asyncio.create_task(bench.order()) for _ in range(5)]
    await let_all_run()
    assert bench.node.calls == ["create_invoice"] * 6  # one for each who waits, and one ahead
    bench.node.gate.open()
    await asyncio.gather(*ordering)


@pytest.mark.parametrize("fault", [TransientError("the store is down"), None], ids=["store down", "paid already"])
async def test_an_invoice_whose_owner_was_not_written_is_never_given_out(fault: Exception | None) -> None:
    bench = Bench()
    await bench.order()
    (ready,) = [payment_hash for payment_hash, order in bench.node.orders.items() if order.urgency is Urgency.AHEAD]
    bench.bindings.fault = fault
    if fault is None:
        await bench.bindings.owners_of_paid([ready])
    assert not bench.ahead(await bench.order())
    bench.bindings.fault = None
    assert all(invoice.payment_hash != ready for invoice in [await bench.order() for _ in range(5)])


async def test_many_at_once_never_get_the_same_invoice() -> None:
    bench = Bench(ahead_max=50)
    found: list[Invoice] = []
    for _ in range(6):
        found += await asyncio.gather(*(bench.order() for _ in range(30)))
    assert len({invoice.payment_hash for invoice in found}) == len(found) == 180
    assert sum(map(bench.ahead, found)) > 100


async def test_another_price_makes_what_lies_ready_worthless() -> None:
    bench = Bench()
    await bench.order()
    await bench.order()
    bench.memo = "something else"
    assert not bench.ahead(await bench.order())
    assert bench.node.orders[(await bench.order()).payment_hash].memo == "something else"


async def test_closing_ends_the_making_of_invoices() -> None:
    bench = Bench()
    bench.node.gate.close()
    ordering = asyncio.create_task(bench.order())
    await let_all_run()
    await asyncio.wait_for(bench.pool.close(), PATIENCE_S)
    bench.node.gate.open()
    await ordering
    assert bench.made_ahead == 0

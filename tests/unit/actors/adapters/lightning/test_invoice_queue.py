"""Queue before the node: questions never wait for invoices, the urgent come first, none waits in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from satmeter.actors.adapters.lightning.invoice_queue import InvoiceQueue
from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.ports import InvoiceOrder, TransientError, Urgency
from tests.helpers.patience import PATIENCE_S
from tests.helpers.settlement import let_all_run

HASH = "ab" * 32
ORDER = InvoiceOrder(21, "memo", 600, "job_a")


class Lane:
    """An invoice lane with a clock of its own, and callers who hold their slots until they are told to go."""

    def __init__(self, slots: int, patience_s: float = 10.0) -> None:
        self.now_s = 0.0
        self.lane = InvoiceQueue(slots, patience_s=patience_s, clock=lambda: self.now_s)
        self.served: list[str] = []
        self.leaving: dict[str, asyncio.Event] = {}

    def come(self, name: str, urgency: Urgency = Urgency.NEW) -> asyncio.Task[None]:
        self.leaving[name] = asyncio.Event()

        async def call() -> None:
            async with self.lane.turn(urgency):
                self.served.append(name)
                await self.leaving[name].wait()

        return asyncio.create_task(call())

    async def leave(self, name: str, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.leaving[name].set()
        await let_all_run()

    async def slow_down(self, call_s: float) -> None:
        """Shows it calls of that length until it believes them."""
        for number in range(50):
            self.come(name := f"slow-{number}")
            await let_all_run()
            await self.leave(name, call_s)
        self.served.clear()


async def test_whoever_has_paid_is_served_before_anybody_new_and_each_in_the_order_of_coming() -> None:
    lane = Lane(1)
    tasks = [lane.come("first")]
    await let_all_run()
    for name, urgency in (("new", Urgency.NEW), ("newer", Urgency.NEW), ("paid", Urgency.PAID), ("also", Urgency.PAID)):
        tasks.append(lane.come(name, urgency))
    await let_all_run()
    for name in ("first", "paid", "also", "new", "newer"):
        await lane.leave(name)
    await asyncio.gather(*tasks)
    assert lane.served == ["first", "paid", "also", "new", "newer"]


async def test_an_invoice_ahead_leaves_a_slot_free_and_never_waits() -> None:
    lane = Lane(2)
    tasks = [lane.come("ahead", Urgency.AHEAD)]
    await let_all_run()
    with pytest.raises(TransientError):
        await lane.come("second", Urgency.AHEAD)
    tasks.append(lane.come("wanted"))
    await let_all_run()
    assert lane.served == ["ahead", "wanted"]
    for name in lane.served:
        await lane.leave(name)
    await asyncio.gather(*tasks)


async def test_a_single_slot_is_never_taken_by_an_invoice_ahead() -> None:
    with pytest.raises(TransientError):
        await Lane(1).come("ahead", Urgency.AHEAD)


@pytest.mark.parametrize("just_served", [False, True], ids=["waiting", "just given the slot"])
async def test_a_caller_that_gives_up_takes_no_slot_with_it(just_served: bool) -> None:
    lane = Lane(1)
    first, gone, last = lane.come("first"), lane.come("gone"), lane.come("last")
    await let_all_run()
    if just_served:
        lane.leaving["first"].set()
        await asyncio.sleep(0)  # It leaves, and the slot is handed on to a task that has not run since.
    gone.cancel()
    await lane.leave("first")
    await lane.leave("last")
    await asyncio.gather(first, last)
    assert gone.cancelled() and lane.served == ["first", "last"]
    lane.come("next")
    await let_all_run()
    await lane.leave("next")
    assert lane.served[-1] == "next"


async def test_somebody_new_is_turned_away_at_once_when_the_turn_would_come_too_late() -> None:
    lane = Lane(2, patience_s=10)
    await lane.slow_down(2.0)
    # Two are served and eight wait: two by two for 2 s each, so that the last call ends after 10 s.
    tasks = [lane.come(f"{number}") for number in range(2 + 8)]
    await let_all_run()
    with pytest.raises(TransientError) as refused:
        await lane.come("late")
    assert refused.value.retry_after_s == 1
    tasks.append(lane.come("paid", Urgency.PAID))
    await let_all_run()
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()


async def test_once_the_node_is_quick_again_nobody_is_turned_away() -> None:
    lane = Lane(1, patience_s=1)
    await lane.slow_down(60.0)
    await lane.slow_down(0.01)
    tasks = [lane.come(f"{number}") for number in range(50)]
    await let_all_run()
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()


class Node(httpx.AsyncBaseTransport):
    """A node that makes no invoice before it is let, and answers everything else at once."""

    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.go_on = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await self.go_on.wait()
            self.under_way -= 1
            return httpx.Response(500, json={"detail": "no"})
        if request.url.path.endswith("/wallet"):
            return httpx.Response(200, json={"balance": 0})
        if request.url.path.endswith("/paginated"):
            return httpx.Response(200, json={"data": [], "total": 0})
        if request.url.path.endswith(HASH):
            return httpx.Response(404, json={"detail": "Payment does not exist."})
        return httpx.Response(200, json=[])


@asynccontextmanager
async def busy_with_invoices(concurrency: int, waiting: int) -> AsyncIterator[tuple[Node, LnbitsLightning]]:
    node = Node()
    lightning = LnbitsLightning(
        "http://node.test", "key", admin_key="admin", timeout_s=30, concurrency=concurrency, transport=node
    )
    orders = [asyncio.create_task(lightning.create_invoice(ORDER)) for _ in range(waiting)]
    while node.under_way < min(waiting, concurrency - max(1, concurrency // 4)):
        await asyncio.sleep(0)
    try:
        yield node, lightning
    finally:
        node.go_on.set()
        await asyncio.gather(*orders, return_exceptions=True)
        await lightning.close()


async def test_what_needs_no_invoice_does_not_wait_for_those_that_are_made() -> None:
    async with busy_with_invoices(2, 50) as (_, lightning):
        async with asyncio.timeout(PATIENCE_S):
            await lightning.check()
            assert await lightning.settlements(10) == []
            assert await lightning.lookup(HASH) is None
            target = PayoutTarget("lnbcrt1", HASH, Msat(1_000))
            await lightning.payout(target, "job_a")


async def test_no_more_invoices_are_made_at_once_than_there_are_slots_for() -> None:
    async with busy_with_invoices(8, 50) as (node, _):
        await let_all_run()
        assert node.most == 6
    assert node.most == 6


async def test_too_long_a_queue_is_an_answer_at_once_and_not_a_wait_for_the_time_out() -> None:
    node = Node()
    lightning = LnbitsLightning("http://node.test", "key", timeout_s=30, concurrency=2, transport=node)
    # As long as no call has told its length, a tenth of a second is believed: 300 fit into 30 s, the one under way too.
    orders = [asyncio.create_task(lightning.create_invoice(ORDER)) for _ in range(500)]
    await let_all_run()
    over = [task for task in orders if task.done()]
    assert len(over) == 500 - 300
    errors = [task.exception() for task in over]
    assert all(isinstance(error, TransientError) and error.retry_after_s for error in errors)
    node.go_on.set()
    await asyncio.gather(*orders, return_exceptions=True)
    await lightning.close()

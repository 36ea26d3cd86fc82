"""The settlement watch: whatever is lost, late, forged or down, a payment is credited, and nothing else is."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from satmeter.actors.domain.errors import RefusedError, not_found, unavailable
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import InvoiceOrder, PermanentError, TransientError
from satmeter.actors.services.treasury import Treasury
from tests.helpers.fakes import FakeLightning
from tests.helpers.patience import PATIENCE_S
from tests.helpers.settlement import SWEEP_S, World, let_all_run

LOST = TransientError("the connection broke")


def forged(count: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


@pytest.fixture
def world() -> World:
    return World()


async def test_a_hinted_payment_is_delivered_at_once_as_the_node_tells_it(world: World) -> None:
    async with world.watched():
        payment_hash = await world.invoice()
        world.node.pay(payment_hash, 22_500)
        world.hint(payment_hash)
        await let_all_run()
        assert world.actors.told == [Settlement(payment_hash, Msat(22_500), "job_a")]


async def test_a_payment_without_a_hint_is_found_by_the_next_sweep(world: World) -> None:
    async with world.watched():
        payment_hash = await world.paid()
        await world.time.advance(SWEEP_S - 0.5)
        assert world.actors.credited == []
        await world.time.advance(0.5)
        assert world.actors.credited == [payment_hash]


async def test_what_was_paid_while_nobody_watched_is_found_at_the_start(world: World) -> None:
    made = [await world.paid(f"job_{number}") for number in range(250)]
    async with world.watched():
        assert sorted(world.actors.credited) == sorted(made)


async def test_a_forged_hint_credits_nothing_and_does_not_hide_the_later_payment(world: World) -> None:
    async with world.watched():
        payment_hash = await world.invoice()
        world.hint(payment_hash, *forged(3))
        await world.time.advance(2 * SWEEP_S)
        assert world.asked("lookup") == 4
        assert world.actors.attempts == []
        world.node.pay(payment_hash)
        world.hint(payment_hash)
        await world.time.advance(1)
        assert world.actors.credited == [payment_hash]


async def test_a_flood_of_forged_hints_is_looked_up_at_a_bounded_pace(world: World) -> None:
    async with world.watched(lookups_per_s=2):
        world.hint(*forged(500))
        await world.time.advance(10)
        assert 15 <= world.asked("lookup") <= 21


async def test_a_burst_of_payments_is_swept_up_without_waiting_for_a_question_about_each(world: World) -> None:
    async with world.watched(lookups_per_s=2):
        paid = [await world.paid() for _ in range(100)]
        world.hint(*paid)
        await world.time.advance(0.5)
        assert sorted(world.actors.credited) == sorted(paid)
        assert world.asked("lookup") < 10


async def test_a_lasting_flood_makes_ten_sweeps_a_second_at_the_most(world: World) -> None:
    async with world.watched(lookups_per_s=1):
        for round_number in range(40):
            world.hint(*(f"{round_number:032x}{n:032x}" for n in range(50)))
            await world.time.advance(0.05, step_s=0.05)
        assert world.asked("settlements") <= 25


async def test_a_flood_beyond_memory_is_dropped_and_the_true_payment_in_it_is_swept_up(world: World) -> None:
    async with world.watched(hints_max=10):
        payment_hash = await world.paid()
        world.hint(*forged(500), payment_hash)
        await world.time.advance(SWEEP_S)
        assert world.asked("lookup") == 10
        assert world.actors.credited == [payment_hash]


async def test_the_same_hint_again_is_one_question_while_it_waits_and_none_once_delivered(world: World) -> None:
    async with world.watched():
        payment_hash = await world.paid()
        world.hint(*[payment_hash] * 50)
        await let_all_run()
        world.hint(*[payment_hash] * 50)
        await world.time.advance(1)
        assert world.asked("lookup") == 1
        assert world.actors.credited == [payment_hash]


async def test_a_settlement_is_delivered_once_whoever_finds_it(world: World) -> None:
    async with world.watched():
        world.node.gate.close()  # The look-up and the sweep are under way at the same time.
        payment_hash = "f0" * 32
        world.node.orders[payment_hash] = InvoiceOrder(21, "", 600, "job_a")
        world.node.pay(payment_hash)
        world.hint(payment_hash)
        await world.time.advance(SWEEP_S)
        world.node.gate.open()
        await world.time.advance(5 * SWEEP_S)
        assert world.actors.attempts == [payment_hash]
        assert world.asked("lookup") == 1 and world.asked("settlements") > 5


async def test_after_a_restart_it_is_delivered_again_because_nobody_remembers(world: World) -> None:
    payment_hash = await world.paid()
    for _ in range(2):
        async with world.watched():
            await let_all_run()
    assert world.actors.credited == [payment_hash] * 2


@pytest.mark.parametrize(
    "fault",
    [RefusedError(unavailable("The actor")), TransientError("host is down"), RuntimeError("a defect")],
    ids=repr,
)
async def test_a_delivery_that_fails_is_repeated_until_it_succeeds_and_then_no_more(
    world: World, fault: Exception
) -> None:
    world.actors.faults["job_a"] = [fault] * 3
    payment_hash = await world.paid()
    async with world.watched():
        for attempts in (1, 2, 3):
            assert world.actors.attempts == [payment_hash] * attempts
            assert world.actors.credited == []
            world.hint(payment_hash)  # What waits for another attempt needs no look-up.
            await world.time.advance(SWEEP_S)
        assert world.actors.credited == [payment_hash]
        await world.time.advance(5 * SWEEP_S)
        assert len(world.actors.attempts) == 4
        assert world.asked("lookup") == 0


async def test_a_delivery_that_failed_is_repeated_although_the_node_lists_it_no_more(world: World) -> None:
    world.actors.faults["job_a"] = [TransientError("host is down")]
    payment_hash = await world.paid()
    async with world.watched():
        world.node.paid_msat.clear()
        await world.time.advance(SWEEP_S)
        assert world.actors.credited == [payment_hash]


async def test_a_delivery_that_failed_is_repeated_while_the_node_is_down(world: World) -> None:
    world.actors.faults["job_a"] = [TransientError("host is down")]
    payment_hash = await world.paid()
    async with world.watched():
        world.node.fault = TransientError("node is down")
        await world.time.advance(SWEEP_S)
        assert world.actors.credited == [payment_hash]


async def test_an_actor_that_does_not_answer_holds_up_no_other(world: World) -> None:
    world.actors.stuck.add("job_stuck")
    await world.paid("job_stuck")
    other = await world.paid("job_a")
    async with world.watched():
        assert world.actors.credited == [other]
        later = await world.paid("job_b")
        await world.time.advance(2 * SWEEP_S)
        assert world.actors.credited == [other, later]
        assert len(world.actors.attempts) == 3


async def test_a_payment_for_an_actor_that_nobody_knows_is_tried_once(world: World) -> None:
    world.actors.faults["job_a"] = [RefusedError(not_found("job"))]
    payment_hash = await world.paid()
    async with world.watched():
        world.hint(payment_hash)
        await world.time.advance(10 * SWEEP_S)
        assert world.actors.attempts == [payment_hash]
        assert world.asked("lookup") == 0


async def test_other_payments_in_the_wallet_are_unowned(world: World) -> None:
    stranger = "e0" * 32
    async with world.watched():
        world.node.pay(stranger, 5_000)
        world.hint(stranger)
        await world.time.advance(3 * SWEEP_S)
        world.hint(stranger)
        await let_all_run()
        assert world.actors.attempts == []
        assert world.asked("lookup") == 1


async def test_a_broken_hint_connection_is_made_anew_and_what_it_missed_is_swept_up_deeply(world: World) -> None:
    for number in range(250):
        await world.paid(f"job_{number}")
    async with world.watched(sweep_interval_s=1_000.0):
        await world.time.advance(15)  # long enough for a connection that was good
        world.actors.told.clear()
        # Older than what a sweep reads that stops at the first page without news.
        missed = await world.invoice("job_missed")
        world.node.paid_msat = {missed: 21_000, **world.node.paid_msat}
        pages = world.asked("settlements")
        world.node.hint_queue.put_nowait(LOST)
        await world.time.advance(1)
        assert world.node.hint_connections == 2
        assert world.asked("settlements") - pages == 4  # three with payments, and the empty one behind them
        assert world.actors.credited == [missed]
        hinted = await world.paid("job_hinted")
        world.hint(hinted)
        await let_all_run()
        assert world.actors.credited == [missed, hinted]


async def test_an_ordinary_sweep_reads_no_further_than_to_what_it_knows(world: World) -> None:
    for number in range(250):
        await world.paid(f"job_{number}")
    async with world.watched():
        pages = world.asked("settlements")
        await world.time.advance(3 * SWEEP_S)
        assert world.asked("settlements") - pages == 3


async def test_more_news_than_one_sweep_takes_is_taken_by_the_next_ones(world: World) -> None:
    async with world.watched(sweep_pages_max=1):
        made = [await world.paid(f"job_{number}") for number in range(250)]
        await world.time.advance(2 * SWEEP_S)
        assert sorted(world.actors.credited) == sorted(made)


async def test_a_node_without_hints_is_asked_for_them_less_and_less_often_and_swept_as_ever(world: World) -> None:
    for _ in range(1_000):
        world.node.hint_queue.put_nowait(LOST)
    async with world.watched():
        await world.time.advance(60)
        assert 8 <= world.node.hint_connections <= 12
        assert 12 <= world.asked("settlements") <= 16


@pytest.mark.parametrize(
    "fault", [TransientError("node is down"), PermanentError("wrong key"), RuntimeError("a defect")], ids=repr
)
async def test_after_an_outage_of_the_node_it_recovers_by_itself(world: World, fault: Exception) -> None:
    async with world.watched():
        by_hint, by_sweep = await world.paid("job_a"), await world.paid("job_b")
        world.node.fault = fault
        world.hint(by_hint)
        await world.time.advance(300)
        assert world.actors.attempts == []
        assert 28 <= world.asked("settlements") <= 33  # every 10 s, not every 5 s, while it is down
        world.node.fault = None
        await world.time.advance(10)
        assert sorted(world.actors.credited) == sorted([by_hint, by_sweep])
        world.hint(late := await world.paid("job_c"))
        await let_all_run()
        assert world.actors.credited[-1] == late


async def test_a_deep_sweep_that_the_node_broke_off_is_made_up_for(world: World) -> None:
    made = [await world.paid(f"job_{number}") for number in range(250)]
    breaking = _after(2, world.node, TransientError("node is down"))
    async with world.watched():
        assert len(world.actors.credited) == 200
        breaking()
        # Nothing on the first pages is new: only a deep sweep comes to the rest.
        await world.time.advance(10)
        assert sorted(world.actors.credited) == sorted(made)


def _after(calls: int, node: FakeLightning, fault: Exception) -> Callable[[], None]:
    """Makes every list fail from then on; what it returns mends the node."""
    inner, left, mended = node.settlements, calls, False

    async def settlements(limit: int, offset: int = 0) -> Any:
        nonlocal left
        left -= 1
        if left < 0 and not mended:
            raise fault
        return await inner(limit, offset)

    def mend() -> None:
        nonlocal mended
        mended = True

    node.settlements = settlements  # type: ignore[method-assign]
    return mend


async def test_closing_ends_the_watch_and_its_deliveries(world: World) -> None:
    world.actors.stuck.add("job_a")
    await world.paid()
    treasury = Treasury(
        world.node,
        world.bindings,
        world.actors.deliver,
        sweep_interval_s=SWEEP_S,
        clock=world.time.clock,
        pause=world.time.pause,
    )
    before = asyncio.all_tasks()
    running = asyncio.create_task(treasury.run())
    await let_all_run()
    assert len(world.actors.attempts) == 1
    await asyncio.wait_for(treasury.close(), PATIENCE_S)
    assert running.cancelled()
    await let_all_run()
    assert asyncio.all_tasks() <= before

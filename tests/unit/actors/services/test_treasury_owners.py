"""The settlement watch and invoices made ahead: credited to whom they were bound, or kept until that can be read."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import MADE_AHEAD, Settlement
from satmeter.actors.ports import TransientError
from tests.helpers.settlement import SWEEP_S, World, let_all_run

POOL = f"{MADE_AHEAD}_0123456789abcdef"


@pytest.fixture
def world() -> World:
    return World()


async def paid_ahead(world: World, owner: str | None) -> str:
    """A paid invoice that was made ahead, bound to this actor."""
    payment_hash = await world.paid(POOL)
    if owner is not None:
        assert await world.bindings.bind(payment_hash, owner, 1)
    return payment_hash


async def test_an_invoice_made_ahead_is_credited_to_whom_it_was_bound(world: World) -> None:
    payment_hash = await paid_ahead(world, "job_a")
    async with world.watched():
        assert world.actors.told == [Settlement(payment_hash, Msat(21_000), "job_a")]


async def test_it_is_found_by_a_hint_too(world: World) -> None:
    async with world.watched():
        payment_hash = await paid_ahead(world, "job_a")
        world.hint(payment_hash)
        await let_all_run()
        assert world.actors.told == [Settlement(payment_hash, Msat(21_000), "job_a")]


async def test_the_owners_of_a_page_are_read_at_once(world: World) -> None:
    for number in range(150):
        await (paid_ahead(world, f"job_{number}") if number % 2 else world.paid(f"job_{number}"))
    async with world.watched():
        assert sorted(told.actor_id or "" for told in world.actors.told) == sorted(f"job_{n}" for n in range(150))
        assert [len(page) for page in world.bindings.asked] == [50, 25]


async def test_after_a_restart_it_is_delivered_again_to_the_same_actor(world: World) -> None:
    payment_hash = await paid_ahead(world, "job_a")
    for _ in range(2):
        async with world.watched():
            await let_all_run()
    assert world.actors.told == [Settlement(payment_hash, Msat(21_000), "job_a")] * 2


@pytest.mark.parametrize("fault", [TransientError("down"), RuntimeError("a defect")], ids=repr)
async def test_while_owners_cannot_be_read_it_is_kept_and_nobody_else_waits_for_it(
    world: World, fault: Exception
) -> None:
    world.bindings.fault = fault
    other = await world.paid("job_b")
    ahead = await paid_ahead_later(world)
    async with world.watched():
        world.hint(ahead)
        await world.time.advance(3 * SWEEP_S)
        assert world.actors.credited == [other]
        assert world.asked("lookup") == 0
        world.bindings.fault = None
        world.node.paid_msat.clear()  # It is kept, whether the node lists it or not.
        await world.time.advance(SWEEP_S)
        assert world.actors.told[1:] == [Settlement(ahead, Msat(21_000), "job_a")]


async def paid_ahead_later(world: World) -> str:
    payment_hash = await world.paid(POOL)
    world.bindings.owners[payment_hash] = "job_a"
    return payment_hash


async def test_a_delivery_that_failed_is_repeated_to_the_same_owner(world: World) -> None:
    world.actors.faults["job_a"] = [TransientError("host is down")]
    payment_hash = await paid_ahead(world, "job_a")
    async with world.watched():
        assert world.actors.credited == []
        world.bindings.fault = TransientError("down")  # The owner is known since.
        await world.time.advance(SWEEP_S)
        assert world.actors.told == [Settlement(payment_hash, Msat(21_000), "job_a")]


async def test_a_payment_of_an_invoice_that_nobody_ever_saw_is_told_of_once(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    payment_hash = await paid_ahead(world, None)
    for _ in range(2):
        async with world.watched():
            world.hint(payment_hash)
            await world.time.advance(3 * SWEEP_S)
    told = capsys.readouterr()
    assert (told.out + told.err).count("payment_of_unowned_invoice") == 1
    assert world.actors.attempts == []
    assert world.asked("lookup") == 0
    assert not await world.bindings.bind(payment_hash, "job_a", 1)

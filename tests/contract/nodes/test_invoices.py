"""Contract of every backend: invoices that we make, and what the node says of their payment."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator

import pytest

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments import bolt11_codec
from satmeter.actors.domain.payments.bolt11_reading import read_fields
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.domain.quotes import digest_in
from satmeter.actors.ports import InvoiceOrder, PortError, TransientError
from tests.helpers.hosts import a_moment, until
from tests.helpers.patience import PATIENCE_S
from tests.lightning.world import Tells, World, looked_up, settled

ACTOR_ID = "job_0123456789abcdefghijklmnopqrstuv"
POOLED_ID = "pool_0123456789abcdefghijklmnopqrstuv"
_CLOCK_SLACK_MS = 5_000


def order(amount_sats: int = 21, *, expiry_s: int = 600, actor_id: str = ACTOR_ID) -> InvoiceOrder:
    return InvoiceOrder(amount_sats, "Satmeter: evaluation of a request", expiry_s, actor_id)


@contextlib.asynccontextmanager
async def hearing(world: World) -> AsyncIterator[asyncio.Queue[str]]:
    """Listen to hints; the connection may break, as a caller's connects again."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        while True:
            with contextlib.suppress(TransientError):
                async for payment_hash in world.lightning.hints():
                    heard.put_nowait(payment_hash)
            await a_moment()

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_heard(world: World, heard: asyncio.Queue[str], payment_hash: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await heard.get() != payment_hash:
            pass


async def test_an_invoice_is_real_bolt11_over_what_was_ordered(world: World) -> None:
    invoice = await world.lightning.create_invoice(order(1_234, expiry_s=700))
    said = read_fields(invoice.payment_request)
    assert said.amount_msat == 1_234_000 == invoice.amount_sats * 1_000
    assert said.payment_hash == invoice.payment_hash
    assert said.memo is not None
    assert said.memo.startswith("Satmeter: evaluation of a request")
    assert abs(invoice.expires_at_ms - (time.time_ns() // 1_000_000 + 700_000)) < _CLOCK_SLACK_MS


async def test_a_memo_that_commits_to_a_quote_can_be_read_by_the_payer(world: World) -> None:
    memo = f"Satmeter: work by {'m' * 100}, quote sha256:{'0a' * 32}"
    invoice = await world.lightning.create_invoice(InvoiceOrder(9, memo, 600, ACTOR_ID))
    said = read_fields(invoice.payment_request).memo
    assert said is not None
    assert said.startswith(memo[:40])
    assert digest_in(said) == "0a" * 32


@pytest.mark.parametrize("actor_id", [ACTOR_ID, "ses_0123456789abcdefghijklmnopqrstuv"])
async def test_an_invoice_tells_those_who_see_it_nothing_of_its_actor(world: World, actor_id: str) -> None:
    """A job's id is all that one needs to take its refund, and wallets show what they are asked to pay."""
    invoice = await world.lightning.create_invoice(order(actor_id=actor_id))
    name = actor_id.partition("_")[2].encode()
    _, words = bolt11_codec.decode(invoice.payment_request)
    # A text in an invoice may begin at any bit.
    shifted = [bolt11_codec.padded_bytes(bytes(words[start:])) for start in range(8)]
    assert not [each for each in shifted if name in each]


async def test_an_unpaid_invoice_is_not_settled(world: World) -> None:
    invoice = await world.lightning.create_invoice(order())
    assert await world.lightning.lookup(invoice.payment_hash) is None
    assert invoice.payment_hash not in [each.payment_hash for each in await world.lightning.settlements(100)]
    assert not await world.lightning.received(invoice.payment_hash)


async def test_an_unknown_hash_is_not_settled(world: World) -> None:
    assert await world.lightning.lookup(secrets.token_hex(32)) is None
    assert not await world.lightning.received(secrets.token_hex(32))


@pytest.mark.parametrize("text", ["", "..", "../wallet", "A" * 64, "0" * 63, "0" * 65, "é" * 64])
async def test_a_text_that_is_not_a_hash_is_not_settled(world: World, text: str) -> None:
    assert await world.lightning.lookup(text) is None


@pytest.mark.parametrize("actor_id", [ACTOR_ID, POOLED_ID])
async def test_a_paid_invoice_is_settled_with_its_amount_and_its_actor(world: World, actor_id: str) -> None:
    invoice = await world.lightning.create_invoice(order(77, actor_id=actor_id))
    if actor_id == POOLED_ID:
        assert await world.bindings.bind(invoice.payment_hash, ACTOR_ID, 60_000)
    await world.pay(invoice.payment_hash)
    settlement = Settlement(invoice.payment_hash, Msat(77_000), ACTOR_ID)
    assert await looked_up(world, invoice.payment_hash) == settlement
    assert settlement in await settled(world)
    assert await world.lightning.received(invoice.payment_hash)


async def test_settled_invoices_are_all_in_pages_without_a_gap(world: World) -> None:
    made = [await world.lightning.create_invoice(order(amount_sats)) for amount_sats in (1, 2, 3, 4, 5)]
    for index in (2, 0, 4):
        await world.pay(made[index].payment_hash)
    found: list[str] = []
    for offset in range(0, 40, 2):
        found += [each.payment_hash for each in await world.lightning.settlements(2, offset)]
    assert set(found) == {made[index].payment_hash for index in (2, 0, 4)}


async def test_an_old_invoice_that_is_paid_last_is_found_by_a_sweep(world: World) -> None:
    """The newest payment may be of the oldest invoice: a list by the age of invoices would hide it."""
    old = await world.lightning.create_invoice(order(50))
    for amount_sats in range(1, 8):
        await world.pay((await world.lightning.create_invoice(order(amount_sats))).payment_hash)
    await world.pay(old.payment_hash)
    seen = [each.payment_hash for each in await world.lightning.settlements(100)]
    assert old.payment_hash in seen


async def test_many_look_ups_at_once_are_answered_like_each_alone(world: World) -> None:
    made = [await world.lightning.create_invoice(order(1 + number)) for number in range(9)]
    for invoice in made[:3]:
        await world.pay(invoice.payment_hash)
    hashes = [secrets.token_hex(32), *(invoice.payment_hash for invoice in made)]
    together = await asyncio.gather(*(looked_up(world, payment_hash) for payment_hash in hashes))
    paid = [Settlement(invoice.payment_hash, Msat.from_sats(invoice.amount_sats), ACTOR_ID) for invoice in made[:3]]
    assert together == [None, *paid, *[None] * 6]


async def test_an_invoice_that_lapsed_is_not_settled(world: World) -> None:
    invoice = await world.lightning.create_invoice(order(50))
    await world.expire(invoice.payment_hash)
    assert await world.lightning.lookup(invoice.payment_hash) is None


async def test_what_arrived_counts_and_not_what_was_asked_for(world: World) -> None:
    invoice = await world.lightning.create_invoice(order(50))
    if Tells.OVERPAID not in world.tells:
        pytest.skip(f"{world.name} takes the exact amount only")
    await world.pay(invoice.payment_hash, 63_007)
    assert await looked_up(world, invoice.payment_hash) == Settlement(invoice.payment_hash, Msat(63_007), ACTOR_ID)


async def test_a_payment_is_hinted(world: World) -> None:
    invoice = await world.lightning.create_invoice(order())
    async with hearing(world) as heard:
        first = await world.lightning.create_invoice(order(1))
        await _until_connected(world, heard)
        await world.pay(first.payment_hash)
        await until_heard(world, heard, first.payment_hash)
        await world.pay(invoice.payment_hash)
        await until_heard(world, heard, invoice.payment_hash)


async def test_hints_come_again_after_the_node_was_away(world: World) -> None:
    async with hearing(world) as heard:
        await _until_connected(world, heard)
        await world.stop()
        await world.start()
        await _until_connected(world, heard)


async def test_without_hints_the_look_up_and_the_sweep_know_of_the_payment(world: World) -> None:
    world.mute_hints()
    invoice = await world.lightning.create_invoice(order())
    await world.pay(invoice.payment_hash)
    settlement = Settlement(invoice.payment_hash, Msat(21_000), ACTOR_ID)
    assert await looked_up(world, invoice.payment_hash) == settlement
    assert settlement in await settled(world)


async def test_a_forged_hint_credits_nothing(world: World) -> None:
    if Tells.FORGED_HINTS not in world.tells:
        pytest.skip(f"nobody but {world.name} can push a hint")
    invoice = await world.lightning.create_invoice(order())
    async with hearing(world) as heard:
        await _until_connected(world, heard)
        await world.push(invoice.payment_hash)
        await until_heard(world, heard, invoice.payment_hash)
    assert await world.lightning.lookup(invoice.payment_hash) is None
    assert invoice.payment_hash not in [each.payment_hash for each in await world.lightning.settlements(100)]


async def test_a_payment_that_came_in_while_the_node_was_away_from_us_is_found(world: World) -> None:
    invoice = await world.lightning.create_invoice(order())
    await world.pay(invoice.payment_hash)
    await world.stop()
    with pytest.raises(TransientError):
        await world.lightning.lookup(invoice.payment_hash)
    with pytest.raises(TransientError):
        await world.lightning.settlements(100)
    with pytest.raises(TransientError):
        await world.lightning.received(invoice.payment_hash)
    with pytest.raises(TransientError):
        await world.lightning.create_invoice(order())
    with pytest.raises(TransientError):
        await world.lightning.check()
    await world.start()

    async def answers() -> bool:
        with contextlib.suppress(TransientError):
            return await world.lightning.lookup(invoice.payment_hash) is not None
        return False

    await until(answers)


async def test_a_node_that_is_slow_is_given_up_in_time(world: World) -> None:
    invoice = await world.lightning.create_invoice(order())
    await world.pay(invoice.payment_hash)
    world.slow(30)
    began_s = time.monotonic()
    with pytest.raises(TransientError):
        await world.lightning.lookup(invoice.payment_hash)
    with pytest.raises(TransientError):
        await world.lightning.balance()
    assert time.monotonic() - began_s < 15
    world.slow(0)
    assert await world.lightning.lookup(invoice.payment_hash) is not None


async def test_rubbish_is_neither_a_payment_nor_its_absence(world: World) -> None:
    invoice = await world.lightning.create_invoice(order())
    await world.pay(invoice.payment_hash)
    world.rubbish(on=True)
    for call in (
        world.lightning.lookup(invoice.payment_hash),
        world.lightning.settlements(100),
        world.lightning.received(invoice.payment_hash),
        world.lightning.balance(),
        world.lightning.create_invoice(order()),
        world.lightning.sent(10),
    ):
        with pytest.raises(PortError):
            await call
    world.rubbish(on=False)
    assert await world.lightning.lookup(invoice.payment_hash) is not None


async def test_a_node_that_serves_passes_the_check(world: World) -> None:
    await world.lightning.check()
    if world.name != "stub":  # It has no keys that could be wrong.
        assert await world.lightning.trouble() is None


async def _until_connected(world: World, heard: asyncio.Queue[str]) -> None:
    """Pay invoices until one is hinted: before that, the connection may not stand yet."""
    if Tells.HINTS not in world.tells:
        pytest.skip(f"{world.name} pushes no news of payments")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(TransientError, TimeoutError):
                invoice = await world.lightning.create_invoice(order(1))
                await world.pay(invoice.payment_hash)
                async with asyncio.timeout(0.2):
                    while await heard.get() != invoice.payment_hash:
                        pass
                return

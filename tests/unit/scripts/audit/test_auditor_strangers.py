"""Invoices of others at a node that is shared: they are counted apart, and what is ours is found all the same.

At such a node the client records whose the payments are; see `OwnedPayments`. Those of the world name their actors as
versions before that did, so that journals alone show that they are ours.
"""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from satmeter.actors.adapters.lightning.invoice_ids import invoice_id, new_random
from satmeter.actors.domain.job.state import CreateJob, JobView
from satmeter.actors.ports import InvoiceOrder, Lightning
from satmeter.scripts.audit.auditor import Report
from satmeter.scripts.audit.payments import Unclaimed
from tests.helpers.audits import TARGET, audited, raw, used_world
from tests.helpers.fakes import FakeBindings
from tests.helpers.hosts import World
from tests.helpers.jobs import JOB_ID
from tests.helpers.payout_owners import OwnersInMemory, owned
from tests.helpers.session_steps import SES
from tests.lightning.keys import KeyInMemory

OTHER = "ses_ffffffffffffffffffffffffffffffff"
OURS, THEIRS = b"k" * 32, b"x" * 32
HASH = "cd" * 32


@pytest.fixture
async def world(redis: Redis) -> World:
    """See `used_world`."""
    return await used_world(redis)


def shared(world: World) -> Lightning:
    return owned(world.lightning, OwnersInMemory({TARGET.payment_hash: SES}), FakeBindings(), KeyInMemory(OURS))


def received(world: World, payment_hash: str, name: str) -> None:
    """The node receives 7 sats by an invoice with this name in its description."""
    world.lightning.orders[payment_hash] = InvoiceOrder(7, "Satmeter: deposit", 600, name)
    world.lightning.pay(payment_hash)


async def look(world: World) -> Report:
    return await audited(world, lightning=shared(world))


async def test_invoices_of_others_are_counted_apart_and_the_books_close(world: World) -> None:
    before = (await look(world)).node
    assert (before["foreign"], before["unclaimed"]) == (0, 0) and before["received"] > 10_000_000
    # Of another store's server, of a former version's, and what a stranger wrote.
    for number, name in enumerate((invoice_id(THEIRS, new_random()), "pool_1", SES, OTHER, "anything_1")):
        received(world, f"{number}" * 64, name)
    report = await look(world)
    assert report.differences == []
    assert report.node == {**before, "foreign": 35_000}


async def test_an_invoice_of_ours_whose_journal_is_lost_is_found(world: World) -> None:
    """The server died between the binding and the journal, and the invoice was paid all the same."""
    for name in (invoice_id(OURS, new_random()), "pool_1", OTHER):
        received(world, HASH, name)
        await raw(world).set(f"satmeter:invoice:{HASH}", OTHER)
        (difference,) = (await look(world)).differences
        assert (
            difference.what == "the node received a payment that no journal credits, for an actor that does not exist"
        )
        assert (difference.payment_hash, difference.actor_id) == (HASH, OTHER)


async def test_an_invoice_of_ours_that_was_never_given_out_is_counted_as_ours(world: World) -> None:
    """The server died between the invoice and the binding. Nobody has seen it but users of the wallet."""
    before = (await look(world)).node
    received(world, HASH, invoice_id(OURS, new_random()))
    for _ in range(2):
        report = await look(world)
        assert report.differences == [] and report.node["foreign"] == 0
        assert report.node == {**before, "received": before["received"] + 7_000, "unclaimed": 7_000}
        assert report.unclaimed == [Unclaimed(HASH, 7_000)]
        await raw(world).set(f"satmeter:invoice:{HASH}", "-")  # the treasury has seen it


async def test_a_payment_that_its_journal_does_not_credit_is_found_without_a_binding(world: World) -> None:
    """Bindings end some days after their invoices, and wallets may be paid later."""
    job_id = f"{JOB_ID[:-1]}w"
    async with world.serving() as (_, router):
        job = await router.call(job_id, CreateJob("write another", "client"))
    assert isinstance(job, JobView)
    invoice = job.eval_invoice.payment_hash
    for name in (invoice_id(OURS, new_random()), "pool_1", "anything_1"):
        received(world, invoice, name)
        await raw(world).set(f"satmeter:invoice:{invoice}", "-")
        (difference,) = (await look(world)).differences
        assert difference.what == "the node received a payment that no journal credits"
        assert (difference.payment_hash, difference.actor_id) == (invoice, job_id)

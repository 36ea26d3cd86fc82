"""The audit finds nothing in books that close, and each kind of difference in books that do not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.audit import AuditStore
from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.job.state import CreateJob, JobView
from satmeter.actors.domain.money import ZERO, Msat
from satmeter.actors.domain.payments.invoices import Settle
from satmeter.actors.domain.payments.payouts import LONG_MS, PayoutReport, PayoutStatus
from satmeter.actors.domain.session.messages import CloseSession
from satmeter.actors.domain.session.state import SessionBooks
from satmeter.actors.partitioning import partition_of
from satmeter.scripts.audit.payments import Pending
from tests.helpers.audits import DEPOSIT_MSAT, TARGET, audited, finds, key_of, raw, used_world
from tests.helpers.hosts import World
from tests.helpers.jobs import JOB_ID
from tests.helpers.session_steps import GRANT, SES, opened

OTHER = "ses_ffffffffffffffffffffffffffffffff"


@pytest.fixture
async def world(redis: Redis) -> World:
    """See `used_world`."""
    return await used_world(redis)


async def test_books_that_close_have_no_difference_and_add_up(world: World) -> None:
    report = await audited(world)
    assert report.differences == []
    sessions, jobs, node = report.sessions, report.jobs, report.node
    assert sessions["actors"] == jobs["actors"] == 1
    assert sessions["received"] == DEPOSIT_MSAT
    assert sessions["refunded"] == node["paid_out"] == TARGET.amount_msat.value
    assert sessions["fees"] == node["fees"] == 1_500
    assert sessions["received"] + jobs["received"] == node["received"]
    for kind in (sessions, jobs):
        parts = ("available", "held", "spent", "owed", "pending", "refunded")
        assert kind["received"] == sum(kind[name] for name in parts)


async def test_an_amount_changed_in_a_journal_is_found(world: World) -> None:
    key = key_of(SES, "j")
    event = msgspec.json.decode(await raw(world).lindex(key, 1))
    assert event["type"] == "deposited"
    event["amount_msat"] += 1
    await raw(world).lset(key, 1, msgspec.json.encode(event))
    await finds(world, "event 2 can't follow on those before it")


async def test_an_event_that_is_lost_from_the_middle_is_found(world: World) -> None:
    await raw(world).lrem(key_of(SES, "j"), 1, await raw(world).lindex(key_of(SES, "j"), 5))
    await finds(world, "can't follow on those before it")


async def test_a_snapshot_that_is_not_what_the_journal_says_is_found(world: World) -> None:
    key = key_of(SES, "s")
    version, _, data = (await raw(world).get(key)).partition(b"\n")
    behaviour = world.host()._behaviours["ses"]
    state = behaviour.decode_state(data)
    books = state.books
    forged = replace(books, balance=books.balance + Msat(7), spent=books.spent - Msat(7))
    await raw(world).set(key, version + b"\n" + behaviour.encode_state(replace(state, books=forged)))
    await finds(world, "the snapshot at version 64 has another books than the journal")
    await raw(world).set(key, b"999\n" + data)
    await finds(world, "the snapshot is ahead of its journal")


async def test_a_defect_in_the_domain_s_own_arithmetic_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Books that close, each event after the other, and charge a millisatoshi too much at the end."""
    end = SessionBooks.end

    def ends_with_a_bite(books: SessionBooks) -> SessionBooks:
        bite = Msat(1) if books.balance else ZERO
        return end(replace(books, balance=books.balance - bite, spent=books.spent + bite))

    monkeypatch.setattr(SessionBooks, "end", ends_with_a_bite)
    await raw(world).delete(key_of(SES, "s"))
    report = await finds(world, "spent is not what its events add up to")
    assert f"actor {SES}" in str(report.differences[0])


async def test_a_payment_that_no_journal_credits_is_found(world: World) -> None:
    order = next(order for order in world.lightning.orders.values() if order.actor_id == SES)
    world.lightning.orders["cd" * 32] = order
    world.lightning.pay("cd" * 32)
    report = await finds(world, "the node received a payment that no journal credits")
    assert report.differences[0].payment_hash == "cd" * 32
    world.lightning.orders["cd" * 32] = replace(order, actor_id=OTHER)
    await finds(world, "for an actor that does not exist")


async def test_a_payment_that_a_journal_credits_a_moment_later_is_no_difference(world: World) -> None:
    async with world.serving() as (_, router):
        job_id = f"{JOB_ID[:-1]}w"
        job = await router.call(job_id, CreateJob("write another", "client"))
        assert isinstance(job, JobView)
        world.lightning.pay(job.eval_invoice.payment_hash)

        async def settle(delay_s: float) -> None:
            await router.call(job_id, Settle(job.eval_invoice.payment_hash, Msat.from_sats(10)))

        report = await audited(world, pause=settle)
    assert report.differences == []


async def test_a_credit_that_the_node_does_not_confirm_is_found(world: World) -> None:
    (payment_hash,) = [h for h, order in world.lightning.orders.items() if order.actor_id == SES]
    del world.lightning.paid_msat[payment_hash]
    report = await finds(world, "a journal credits a payment that the node does not confirm")
    assert report.differences[0].payment_hash == payment_hash


async def test_a_credit_of_another_amount_or_for_another_actor_is_found(world: World) -> None:
    (payment_hash,) = [h for h, order in world.lightning.orders.items() if order.actor_id == SES]
    world.lightning.paid_msat[payment_hash] += 1
    await finds(world, "a payment is not credited as the node received it")
    world.lightning.paid_msat[payment_hash] -= 1
    world.lightning.orders[payment_hash] = replace(world.lightning.orders[payment_hash], actor_id=OTHER)
    await finds(world, "a payment is not credited as the node received it")


async def test_a_payment_credited_twice_is_found(world: World) -> None:
    journal = await raw(world).lrange(key_of(SES, "j"), 0, 1)
    await raw(world).rpush(key_of(OTHER, "j"), *journal)
    report = await audited(world)
    assert "a payment is credited more than once" in [difference.what for difference in report.differences]


async def test_an_invoice_made_ahead_is_credited_to_the_actor_that_it_was_given_to(world: World) -> None:
    (payment_hash,) = [h for h, o in world.lightning.orders.items() if o.actor_id == JOB_ID and o.amount_sats == 10]
    world.lightning.orders[payment_hash] = replace(world.lightning.orders[payment_hash], actor_id="pool_1")
    await raw(world).set(f"satmeter:invoice:{payment_hash}", JOB_ID)
    assert (await audited(world)).differences == []
    await raw(world).set(f"satmeter:invoice:{payment_hash}", OTHER)
    await finds(world, "a payment is not credited as the node received it")


async def test_a_payout_that_the_node_never_made_is_found(world: World) -> None:
    world.lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.FAILED)
    await finds(world, "a journal says that a payout was paid, and the node does not")


async def test_a_payout_with_another_fee_is_found(world: World) -> None:
    world.lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.PAID, Msat(1_499))
    await finds(world, "a payout is not in the journal as the node made it")


async def test_a_route_beyond_its_reserve_is_counted_as_ours_and_held_to_the_node_s_word(redis: Redis) -> None:
    """The reserve is 50,000 msat."""
    world = await used_world(redis, fee_msat=51_000)
    report = await audited(world)
    assert report.differences == [] and report.node["fees"] == 51_000
    assert (report.sessions["fees"], report.sessions["uncovered"]) == (50_000, 1_000)
    world.lightning.outgoing[TARGET.payment_hash] = PayoutReport(PayoutStatus.PAID, Msat(51_001))
    await finds(world, "a payout is not in the journal as the node made it")


async def test_a_payout_of_a_journal_that_did_not_keep_what_a_route_cost_in_all_is_no_difference(redis: Redis) -> None:
    world = await used_world(redis, fee_msat=51_000)
    key = key_of(SES, "j")
    events = [msgspec.json.decode(data) for data in await raw(world).lrange(key, 0, -1)]
    (place,) = [i for i, event in enumerate(events) if event["type"] == "payout_paid"]
    older = {k: v for k, v in events[place].items() if k not in {"reserve_msat", "uncovered_msat"}}
    await raw(world).lset(key, place, msgspec.json.encode(older))
    hour = events[place]["at_ms"] // 3_600_000
    await raw(world).hdel(key_of(SES, "sums").rpartition(":")[0], f"{hour}:uncovered_msat")
    assert (await audited(world)).differences == []


async def test_a_payout_that_the_node_leaves_pending_is_named_after_a_day_and_is_no_difference(redis: Redis) -> None:
    world = World(redis)
    world.lightning.payout_script = [PayoutReport(PayoutStatus.PENDING)]
    async with world.serving() as (_, router):
        world.lightning.pay((await opened(router)).deposit_invoice.payment_hash)
        await router.call(SES, CloseSession(TARGET, Once("c", "d", keyed=True), GRANT, waits=False))
    world.lightning.wallet_msat = 100_000_000
    report = await audited(world)
    assert (report.differences, report.long_pending) == ([], [])
    world.offset_ms += LONG_MS
    report = await audited(world)
    assert report.differences == []
    (pending,) = report.long_pending
    assert pending == Pending(TARGET.payment_hash, SES, TARGET.amount_msat.value, pending.since_ms)
    assert LONG_MS <= world.now_ms() - pending.since_ms < LONG_MS + 60_000


async def test_a_payout_that_no_journal_tells_of_is_found(world: World) -> None:
    again = replace(TARGET, payment_hash="cd" * 32)
    world.lightning.payout_orders.append((again, SES))
    world.lightning.outgoing[again.payment_hash] = PayoutReport(PayoutStatus.PAID)
    await finds(world, "the node paid out what no journal says was paid")


async def test_a_partition_without_an_owner_and_a_journal_in_the_wrong_place_are_found(world: World) -> None:
    wrong = f"satmeter:{{p{(partition_of(SES) + 1) % 1_024:04d}}}"
    await raw(world).copy(key_of(SES, "j"), f"{wrong}:j:{SES}")
    await raw(world).rename(key_of(SES, "j"), f"{wrong}:x")
    report = await audited(world)
    assert {"there is a snapshot, and no journal", "the journal is in another partition than its actor"} <= {
        difference.what for difference in report.differences
    }
    await raw(world).rename(f"{wrong}:x", key_of(SES, "j"))
    await raw(world).delete(f"{wrong}:j:{SES}")
    await raw(world).delete("satmeter:{p0005}:owner")
    await finds(world, "partition 5 has an epoch without an owner")


async def test_a_wallet_that_holds_less_than_what_is_its_clients_is_found(world: World) -> None:
    report = await audited(world)
    world.lightning.wallet_msat = report.liability_msat
    assert (await audited(world)).differences == []
    world.lightning.wallet_msat -= 1
    await finds(world, "the wallet holds less than what is its clients'")


async def test_a_running_total_that_is_not_what_the_journals_add_up_to_is_found(world: World) -> None:
    key = f"satmeter:{{p{partition_of(SES):04d}}}:totals"
    await raw(world).hincrby(key, "liability_msat", 1)
    await finds(world, f"the running total of partition {partition_of(SES)} is not what its journals add up to")
    await raw(world).delete(key)
    report = await audited(world)
    assert report.differences == [] and report.partitions_without_total == 1


async def test_what_happens_between_two_readings_is_no_difference(world: World) -> None:
    """The journals are read while requests are charged and a session is opened and paid."""
    async with world.serving() as (_, router):
        read = world.redis.scan
        jobs: list[str] = []

        async def scan(*args: Any, **options: Any) -> Any:
            found = await read(*args, **options)
            job_id = f"{JOB_ID[:-2]}{len(jobs):02}"
            jobs.append(job_id)
            job = await router.call(job_id, CreateJob("another", "client"))
            assert isinstance(job, JobView)
            world.lightning.pay(job.eval_invoice.payment_hash)
            await router.call(job_id, Settle(job.eval_invoice.payment_hash, Msat.from_sats(10)))
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.redis, "scan", scan)
            report = await audited(world)
        assert len(jobs) > 1 and report.differences == []


async def test_all_kinds_of_stores_are_read_to_the_end(any_redis: Redis) -> None:
    raw: Any = any_redis
    pairs = []
    for number in range(300):
        actor_id = f"job_{number:032d}"
        await raw.rpush(key_of(actor_id, "j"), b"{}")
        pairs.append((partition_of(actor_id), actor_id))
    store = AuditStore(any_redis)
    found = [key async for keys in store.actors() for key in await store.read(keys)]
    assert {stored.key for stored in found} == set(pairs)
    assert {(stored.length, stored.events[0]) for stored in found} == {(1, b"{}")}

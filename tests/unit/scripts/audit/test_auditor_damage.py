"""Data that no version wrote is a difference that names its place, never an error of the audit's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from satmeter.actors.partitioning import partition_of
from tests.helpers.audits import audited, finds, key_of, raw, used_world
from tests.helpers.hosts import World
from tests.helpers.session_steps import SES, opened

OTHER = "ses_ffffffffffffffffffffffffffffffff"
JOURNAL, SNAPSHOT = key_of(SES, "j"), key_of(SES, "s")
PARTITION = f"satmeter:{{p{partition_of(SES):04d}}}"
TOTALS = f"{PARTITION}:totals"

Damage = Callable[[Any], Awaitable[object]]


@pytest.fixture
async def world(redis: Redis) -> World:
    """See `used_world`."""
    return await used_world(redis)


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b"7",
        b'{"type":"\xff"}',
        b'{"type":"hold_dreamt","at_ms":1}',
        b'{"type":"session_closed","at_ms":1}',
        b'{"type":"session_closed","at_ms":1,"refunded_msat":0}',
        b'{"type":"hold_placed","at_ms":1,"seq":2,"balance_msat":0,"hold":[]}',
        b'{"type":"hold_placed","at_ms":"x","seq":2,"balance_msat":0}',
    ],
)
async def test_an_event_that_is_none_is_named_by_actor_and_number(world: World, event: bytes) -> None:
    await raw(world).lset(JOURNAL, 2, event)
    report = await finds(world, "event 3 can't follow on those before it: ")
    assert report.differences[0].actor_id == SES


async def test_an_actor_that_nobody_would_look_after_is_named(redis: Redis) -> None:
    world = World(redis)
    async with world.serving() as (_, router):
        world.lightning.pay((await opened(router)).deposit_invoice.payment_hash)
    world.lightning.wallet_msat = 100_000_000
    assert (await audited(world)).difference_count == 0
    await raw(world).zrem(f"{PARTITION}:due", SES)
    report = await finds(world, "nobody would look after it")
    assert report.differences[0].actor_id == SES


@pytest.mark.parametrize("amount", ["1", None, -1, 1.5, 10**30, [], 10_000_001])
async def test_an_amount_that_is_none_is_named_by_actor_and_number(world: World, amount: object) -> None:
    event = msgspec.json.decode(await raw(world).lindex(JOURNAL, 1))
    # By hand, as no encoder writes all of these.
    written = msgspec.json.encode({**event, "amount_msat": 0}).replace(
        b'"amount_msat":0', f'"amount_msat":{"null" if amount is None else amount!r}'.replace("'", '"').encode()
    )
    await raw(world).lset(JOURNAL, 1, written)
    report = await finds(world, "event 2 can't follow on those before it: ")
    assert report.differences[0].actor_id == SES


@pytest.mark.parametrize(
    ("snapshot", "what"),
    [
        (b"", "the snapshot has no version"),
        (b"{}", "the snapshot has no version"),
        (b"x\n%s", "the snapshot has no version"),
        (b"-3\n%s", "the snapshot has no version"),
        (b"0\n%s", "the snapshot has no version"),
        (b"64\n", "the snapshot can't be read"),
        (b"64\n{", "the snapshot can't be read"),
        (b"64\n\xff", "the snapshot can't be read"),
        (b"64\n{}", "the snapshot can't be read"),
        (b"63\n%s", "the snapshot at version 63 has another"),
    ],
)
async def test_a_snapshot_that_is_none_is_found(world: World, snapshot: bytes, what: str) -> None:
    _, _, state = (await raw(world).get(SNAPSHOT)).partition(b"\n")
    await raw(world).set(SNAPSHOT, snapshot.replace(b"%s", state))
    report = await finds(world, what)
    assert report.differences[0].actor_id == SES


async def test_a_snapshot_without_a_journal_is_found(world: World) -> None:
    """A host would show what it says."""
    await raw(world).copy(SNAPSHOT, key_of(OTHER, "s"))
    report = await finds(world, "there is a snapshot, and no journal")
    assert report.differences[0].actor_id == OTHER


async def test_a_copy_in_another_partition_is_found_whichever_comes_first(world: World) -> None:
    for partition in (0, 9_999):
        copy = f"satmeter:{{p{partition:04d}}}:j:{SES}"
        await raw(world).copy(JOURNAL, copy)
        found = [difference.what for difference in (await audited(world)).differences]
        assert found.count("the journal is in another partition than its actor") == 1
        assert "a payment is credited more than once" in found
        await raw(world).delete(copy)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda r: r.hset(TOTALS, "liability_msat", "x"), "the running total of partition"),
        (lambda r: r.hdel(TOTALS, "liability_msat"), "the running total of partition"),
        (lambda r: r.hset(TOTALS, "archived_spent_msat", "x"), "the archived amount is not a number"),
        (lambda r: r.delete(f"{PARTITION}:epoch", f"{PARTITION}:owner"), "has journals, and no epoch"),
        (lambda r: r.set(JOURNAL, "x"), "there is something else where its journal should be"),
    ],
)
async def test_what_stands_beside_a_journal_is_found_too(world: World, damage: Damage, what: str) -> None:
    await damage(raw(world))
    await finds(world, what)

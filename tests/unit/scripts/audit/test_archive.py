"""Finished actors go to a file and out of the store, at no moment lost, and the audit still closes."""

from __future__ import annotations

import fcntl
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from rich.console import Console

from satmeter.actors.adapters.redis.archive import RedisArchive
from satmeter.actors.adapters.redis.audit import AuditStore
from satmeter.actors.adapters.redis.totals import sum_totals
from satmeter.actors.domain.behaviour import Once
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.domain.session.messages import CloseSession, GetSession, SessionView
from satmeter.actors.partitioning import partition_of
from satmeter.scripts.audit.archive import ArchiveError, Archiver, read_archive
from satmeter.scripts.audit.auditor import Audit, Report
from tests.helpers.hosts import World
from tests.helpers.session_steps import GRANT, SES, answered, ask, opened, show

LATER_MS = 10**15
OTHER = "ses_ffffffffffffffffffffffffffffffff"
JOURNAL = f"satmeter:{{p{partition_of(SES):04d}}}:j:{SES}"


@pytest.fixture
def world(redis: Redis) -> World:
    """Parts outside of the host."""
    world = World(redis)
    world.lightning.wallet_msat = 100_000_000
    return world


async def _close(router: Any) -> SessionView:
    """Pays out all that can be: what is left is less than a routing fee's reserve."""
    left_sats = (await show(router)).balance_msat.value * 98 // 100 // 1_000
    target = PayoutTarget("lnbcrt1", "ab" * 32, Msat.from_sats(left_sats))
    view = await router.call(SES, CloseSession(target, Once("c", "d", keyed=True), GRANT))
    assert isinstance(view, SessionView)
    rest = PayoutTarget("lnbcrt2", "cd" * 32, Msat.from_sats(view.refund.owed_msat.whole_sats - 4))
    view = await router.call(SES, CloseSession(rest, Once("c2", "d", keyed=True), GRANT))
    assert isinstance(view, SessionView)
    last = PayoutTarget("lnbcrt3", "ef" * 32, Msat.from_sats(view.refund.owed_msat.whole_sats - 2))
    view = await router.call(SES, CloseSession(last, Once("c3", "d", keyed=True), GRANT))
    assert isinstance(view, SessionView) and view.refund.owed_msat.whole_sats < 3
    return view


async def _archive(world: World, file: Path, before_ms: int = LATER_MS) -> int:
    behaviours = world.host()._behaviours
    return await Archiver(AuditStore(world.redis), RedisArchive(world.redis), behaviours, before_ms).run(file)


async def _audit(world: World, *archives: Path) -> Report:
    behaviours, console = world.host()._behaviours, Console(file=io.StringIO())
    audit = Audit(
        AuditStore(world.redis),
        world.lightning,
        behaviours,
        console,
        archives=archives,
        pause=world.pause,
        clock=iter(range(1_000_000)).__next__,
    )
    return await audit.run()


@pytest.mark.usefixtures("placement")
async def test_a_session_that_is_done_moves_to_the_file_and_is_gone_for_its_host_too(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "archive.jsonl"
    async with world.serving() as (_, router):
        created = await opened(router)
        world.lightning.pay(created.deposit_invoice.payment_hash)
        await answered(router, ask())
        assert await _archive(world, file) == 0, "it is still in use"
        shown = await _close(router)
        before = await _audit(world)
        assert await _archive(world, file, before_ms=0) == 0, "it was closed just now"
        assert await _archive(world, file) == 1
        assert await _archive(world, file) == 0
        # The host has it in memory, and what it would write is refused.
        again = PayoutTarget("lnbcrt9", "99" * 32, Msat.from_sats(1))
        with pytest.raises(RefusedError):
            await router.call(SES, CloseSession(again, Once("c9", "d", keyed=True), GRANT))
        assert await world.redis.exists(JOURNAL) == 0
    async with world.serving() as (_, router):
        with pytest.raises(RefusedError) as gone:
            await router.call(SES, GetSession(GRANT))
        assert gone.value.refusal.code is Code.NOT_FOUND
    assert before.differences == []
    report = await _audit(world, file)
    assert report.differences == []
    assert {**report.archived} == {**before.sessions}
    assert report.archived["owed"] == shown.refund.owed_msat.value
    assert (await sum_totals(world.redis)).msat == report.liability_msat == 0


async def test_an_archive_that_is_not_named_is_asked_for(world: World, tmp_path: Path) -> None:
    async with world.serving() as (_, router):
        created = await opened(router)
        world.lightning.pay(created.deposit_invoice.payment_hash)
        await _close(router)
    assert await _archive(world, tmp_path / "a") == 1
    report = await _audit(world)
    assert "do not hold what was archived (actors): is one missing, or a line in one?" in report.differences[0].what


async def test_what_is_written_meanwhile_stays_in_the_store(world: World, tmp_path: Path) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        await _close(router)
    store, raw = AuditStore(world.redis), world.redis
    (stored,) = await store.read([key async for keys in store.actors() for key in keys])
    sums = dict.fromkeys(("received_msat", "spent_msat", "refunded_msat", "owed_msat"), 0)
    assert not await RedisArchive(raw).remove(stored.key, stored.length - 1, sums)
    await raw.incr(f"satmeter:{{p{partition_of(SES):04d}}}:epoch")
    assert not await RedisArchive(raw).remove(stored.key, stored.length, sums), "its total is being counted"
    assert await raw.exists(JOURNAL) == 1


async def test_a_run_that_was_cut_off_is_made_good_by_the_next(world: World, tmp_path: Path) -> None:
    """Once before anything was deleted, with the line on disk, and once in the middle of a line."""
    file = tmp_path / "archive.jsonl"
    async with world.serving() as (_, router):
        created = await opened(router)
        world.lightning.pay(created.deposit_invoice.payment_hash)
        await _close(router)

    class Dies(RedisArchive):
        async def remove(self, *args: Any) -> bool:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await Archiver(AuditStore(world.redis), Dies(world.redis), world.host()._behaviours, LATER_MS).run(file)
    assert (await _audit(world, file)).differences == []
    with file.open("ab") as half:
        half.write(b'{"actor_id":"ses_')
    assert len(list(read_archive(file))) == 1
    assert await _archive(world, file) == 1
    assert len(list(read_archive(file))) == 2
    assert (await _audit(world, file)).differences == []


async def test_an_archive_that_was_tampered_with_is_found(world: World, tmp_path: Path) -> None:
    file = tmp_path / "archive.jsonl"
    async with world.serving() as (_, router):
        created = await opened(router)
        world.lightning.pay(created.deposit_invoice.payment_hash)
        await _close(router)
    await _archive(world, file)
    text = file.read_bytes()
    file.write_bytes(text.replace(b'"amount_msat":10000000', b'"amount_msat":10000001', 1))
    assert (await _audit(world, file)).difference_count > 0
    file.write_bytes(b"nonsense\n" + text + b"half a li")
    report = await _audit(world, file)
    assert [difference.what for difference in report.differences] == [f"{file}, line 1: not a line of an archive"]
    file.write_bytes(text + text.replace(SES.encode(), OTHER.encode()))
    differences = [difference.what for difference in (await _audit(world, file)).differences]
    assert any("do not hold what was archived (actors): was a line of one changed or added?" in d for d in differences)
    file.write_bytes(msgspec.json.encode({"actor_id": OTHER, "partition": 1, "events": []}) + b"\n" + text)
    report = await _audit(world, file)
    assert [difference.what for difference in report.differences] == [f"{file}, line 1: an actor without a journal"]


async def test_a_file_that_can_not_be_written_to_is_named_and_nothing_is_deleted(world: World, tmp_path: Path) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        await _close(router)
    with pytest.raises(ArchiveError, match=r"nowhere/a can't be written to: No such file.*Nothing was deleted"):
        await _archive(world, tmp_path / "nowhere" / "a")
    assert await world.redis.exists(JOURNAL) == 1


@pytest.mark.parametrize("damage", [b"{", b'{"type":"deposited","at_ms":1}', b"[]"])
async def test_a_journal_that_can_not_be_folded_stops_it_by_its_name(
    world: World, tmp_path: Path, damage: bytes
) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        await _close(router)
    raw: Any = world.redis
    await raw.lset(JOURNAL, 2, damage)
    with pytest.raises(ArchiveError, match=rf"Nothing more is archived before this is mended.*actor {SES}"):
        await _archive(world, tmp_path / "archive.jsonl")
    assert await raw.exists(JOURNAL) == 1


async def test_two_runs_never_write_to_one_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "archive.jsonl"
    with file.open("ab") as other:
        other.write(b"a line that is being")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ArchiveError, match="being written to by another run: wait until that one has ended"):
            await _archive(world, file)
        assert file.read_bytes() == b"a line that is being"
    assert await _archive(world, file) == 0
    assert file.read_bytes() == b""

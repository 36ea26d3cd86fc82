"""A cluster as the store: moved slots, failovers, nodes that hang, and no write that goes out twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing

from redis.asyncio import Redis

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.cluster_client import ClusterRedis
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.adapters.redis.limits import RedisLimits
from satmeter.actors.adapters.stub.node import KEY, URL, StubNode
from satmeter.actors.ports import Append, InvoiceOrder, TransientError
from tests.helpers.hosts import World, until
from tests.helpers.session_steps import answered, ask, opened, show
from tests.helpers.stores import cluster, losing_answers, move_slot_of, nodes_of, tell

EPOCH_KEY = "satmeter:{p0017}:epoch"


async def written_at_last(journal: RedisJournal, actor_id: str, version: int, event: bytes) -> None:
    """Writes one event of partition 17 as a host does: when a write's outcome is unknown it looks, then decides."""

    async def done() -> bool:
        try:
            if len((await journal.load(17, actor_id)).events) > version:
                return True
            await journal.append(Append(17, 1, actor_id, version, [event]))
        except TransientError:
            return False
        return True

    try:
        await journal.append(Append(17, 1, actor_id, version, [event]))
    except TransientError:
        await until(done)


async def evalsha_calls(redis: Redis) -> int:
    stats = [(await node.info("commandstats")).get("cmdstat_evalsha", {"calls": 0}) for node in await nodes_of(redis)]
    return sum(int(stat["calls"]) for stat in stats)


async def test_every_write_is_there_once_after_its_slot_has_moved_under_it(clustered: ClusterRedis) -> None:
    journal = RedisJournal(clustered)
    await journal.claim([17], "host-0")
    moved = asyncio.Event()
    written: dict[str, list[bytes]] = {f"job_{n}": [] for n in range(5)}

    async def write(actor_id: str) -> None:
        events = written[actor_id]
        while not moved.is_set() or len(events) < 20:
            event = b"%d" % len(events)
            await written_at_last(journal, actor_id, len(events), event)
            events.append(event)

    writers = [asyncio.create_task(write(actor_id)) for actor_id in written]

    async def under_way() -> bool:
        return all(len(events) > 3 for events in written.values())

    await until(under_way)
    home = clustered.shard_of(EPOCH_KEY)
    away = next(node for address, node in (await clustered.primaries()).items() if address != home)
    await move_slot_of(EPOCH_KEY, away, clustered)
    moved.set()
    await asyncio.gather(*writers)
    assert clustered.shard_of(EPOCH_KEY) != home
    for actor_id, events in written.items():
        assert (await journal.load(17, actor_id)).events == events


async def test_a_client_with_an_outdated_map_follows_what_the_nodes_say(
    clustered: ClusterRedis, cluster_url: str
) -> None:
    journal = RedisJournal(clustered)
    await journal.claim([17], "host-0")
    other = connect(cluster_url)
    assert isinstance(other, ClusterRedis)
    home = clustered.shard_of(EPOCH_KEY)
    away = next(node for address, node in (await other.primaries()).items() if address != home)
    await move_slot_of(EPOCH_KEY, away, other)
    await other.aclose()
    await journal.append(Append(17, 1, "job_a", 0, [b"one"]))
    assert (await journal.load(17, "job_a")).events == [b"one"]
    assert clustered.shard_of(EPOCH_KEY) != home


async def test_a_command_is_let_in_where_its_slot_is_just_arriving(clustered: ClusterRedis) -> None:
    nodes = await clustered.primaries()
    home = clustered.shard_of(EPOCH_KEY)
    assert home is not None
    address, away = next((a, n) for a, n in nodes.items() if a != home)
    slot = await tell(away, "CLUSTER KEYSLOT", EPOCH_KEY)
    ids = {a: (await tell(n, "CLUSTER MYID")).decode() for a, n in nodes.items()}
    await tell(away, "CLUSTER SETSLOT", slot, "IMPORTING", ids[home])
    await tell(nodes[home], "CLUSTER SETSLOT", slot, "MIGRATING", ids[address])
    try:
        # Many at once: each needs its own word to be let in, on its own connection.
        epochs = await asyncio.gather(*(clustered.incr(EPOCH_KEY) for _ in range(20)))
        assert sorted(epochs) == list(range(1, 21))
        assert clustered.shard_of(EPOCH_KEY) == home
    finally:
        for node in (away, nodes[home]):
            await tell(node, "CLUSTER SETSLOT", slot, "NODE", ids[address])


async def test_a_node_that_hangs_holds_up_no_write_of_the_others(clustered: ClusterRedis) -> None:
    journal = RedisJournal(clustered)
    await journal.claim(range(100), "host-0")
    hanging = clustered.shard_of(EPOCH_KEY)
    others = [p for p in range(100) if clustered.shard_of(f"satmeter:{{p{p:04d}}}:epoch") != hanging]
    assert hanging is not None
    pid = (await (await clustered.primaries())[hanging].info("server"))["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        stuck = asyncio.create_task(journal.append(Append(17, 1, "job_a", 0, [b"e"])))
        await asyncio.sleep(0)
        await asyncio.gather(*(journal.append(Append(p, 1, "job_b", 0, [b"e"])) for p in others))
        assert not stuck.done()
    finally:
        os.kill(pid, signal.SIGCONT)
    await stuck


async def test_a_write_whose_confirmation_is_lost_is_not_sent_again(clustered: ClusterRedis) -> None:
    await RedisJournal(clustered).claim([17], "host-0")
    async with losing_answers(list(await clustered.primaries())) as (behind, lose):
        journal = RedisJournal(behind)
        await journal.append(Append(17, 1, "job_a", 0, [b"one"]))
        before = await evalsha_calls(clustered)
        lose.set()
        outcomes = await asyncio.gather(
            *(journal.append(Append(17, 1, f"job_{n}", 0, [b"lost"])) for n in range(10)), return_exceptions=True
        )
        assert not lose.is_set()
        assert all(isinstance(outcome, TransientError) for outcome in outcomes)
        assert await evalsha_calls(clustered) - before == 10
        for n in range(10):
            assert (await journal.load(17, f"job_{n}")).events == [b"lost"]


async def test_a_node_that_forgot_the_scripts_is_given_them_again(clustered: ClusterRedis) -> None:
    limits, journal = RedisLimits(clustered), RedisJournal(clustered)
    await journal.claim(range(30), "host-0")
    for round_, node in enumerate(await nodes_of(clustered)):
        await node.script_flush()
        await asyncio.gather(*(journal.append(Append(p, 1, f"job_{round_}", 0, [b"e"])) for p in range(30)))
        for client in range(10):
            assert await limits.hit("demo", f"10.0.{round_}.{client}", 1, 60) is None


async def test_after_a_failover_the_same_journal_goes_on_with_what_was_acknowledged() -> None:
    async with cluster(replica=True, node_timeout_ms=500) as store:
        redis = connect(store.url)
        assert isinstance(redis, ClusterRedis)
        journal = RedisJournal(redis)
        await redis.set("known", 1)
        dying = store.servers[0].address
        partitions = [p for p in range(100) if redis.shard_of(f"satmeter:{{p{p:04d}}}:epoch") == dying]
        assert len(partitions) > 10
        await journal.claim(partitions, "host-0")
        await asyncio.gather(*(journal.append(Append(p, 1, "job_a", 0, [b"one"])) for p in partitions))
        # A replica may lag; what this is about is that the client finds it.
        async with store.servers[0].client() as primary:
            assert await tell(primary, "WAIT", 1, 1_000) == 1
        store.servers[0].signal(signal.SIGKILL)

        async def written(partition: int) -> bool:
            try:
                if len((await journal.load(partition, "job_a")).events) == 1:
                    await journal.append(Append(partition, 1, "job_a", 1, [b"two"]))
            except TransientError:
                return False
            return True

        await asyncio.gather(*(until(lambda p=p: written(p)) for p in partitions))  # type: ignore[misc]
        for partition in partitions:
            assert (await journal.load(partition, "job_a")).events == [b"one", b"two"]
        await journal.close()


async def test_limits_count_on_a_cluster(clustered: ClusterRedis) -> None:
    limits = RedisLimits(clustered, lambda: 1_800_000_000_000)
    assert [await limits.hit("demo", "::1", 2, 60) for _ in range(3)] == [None, None, 60]
    assert await limits.reserve("::1", "job_1", 1, 1_800_000_060_000) is None
    assert await limits.reserve("::1", "job_2", 1, 1_800_000_060_000) == 60
    await limits.release("::1", "job_1")
    assert await limits.reserve("::1", "job_2", 1, 1_800_000_060_000) is None


async def test_the_stub_node_takes_makes_and_tells_payments_on_a_cluster(clustered: ClusterRedis) -> None:
    stub = StubNode(clustered)
    lightning = LnbitsLightning(URL, KEY, admin_key=KEY, timeout_s=5, concurrency=4, transport=stub, hints=stub.hints)
    invoice = await lightning.create_invoice(InvoiceOrder(21, "memo", 600, "job_1"))
    hints = stub.hints()
    assert isinstance(hints, AsyncGenerator)
    async with aclosing(hints):
        told = asyncio.ensure_future(anext(hints))

        async def heard() -> bool:
            await stub.pay(invoice.payment_hash)
            return told.done()

        await until(heard)
        assert await told == invoice.payment_hash
    (settlement,) = await lightning.settlements(10)
    assert settlement.payment_hash == invoice.payment_hash
    await lightning.close()


async def test_a_session_is_served_by_one_host_after_the_other_on_a_cluster(clustered: ClusterRedis) -> None:
    world = World(clustered)
    async with world.serving() as (_, router):
        await opened(router)
        world.journal.lose_after_writing = 1
        await answered(router, ask(key="once"))
        before = await show(router)
    async with world.serving() as (_, router):
        await answered(router, ask(key="once"))
        assert await show(router) == before
    assert before.spent_msat

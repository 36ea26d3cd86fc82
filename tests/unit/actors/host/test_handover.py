"""Partitions on their way between hosts while sessions are at work in them: nothing is lost or charged twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog
from redis.asyncio import Redis

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.llm.answers import TextDelta
from satmeter.actors.domain.session.messages import GetSession, RequestAnswer
from satmeter.actors.messages import Call, NotOwner
from satmeter.actors.partitioning import PARTITIONS, owned_by, partition_of
from satmeter.actors.ports import TransientError
from tests.helpers.hosts import World, until
from tests.helpers.multi_host import Fleet
from tests.helpers.session_steps import GRANT, SES, answered, ask, ledger, opened, show

# A host alone owns SES; of two, `other` does; and of three, `third`.
PAIR = ("host-0", "host-1")
OTHER = next(h for h in PAIR if partition_of(SES) in owned_by(h, PAIR))
FIRST = next(h for h in PAIR if h != OTHER)


@asynccontextmanager
async def fleet(redis: Redis, *host_ids: str) -> AsyncIterator[Fleet]:
    """Hosts, of which the first owns everything."""
    hosts = Fleet(World(redis))
    try:
        await hosts.start(*host_ids)
        hosts.plan(host_ids[0])
        await hosts.moved()
        yield hosts
    finally:
        await hosts.close()


async def test_a_host_that_joins_takes_its_share_and_its_sessions_go_on(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        before = await answered(hosts.router, ask(1))
        hosts.plan(*PAIR)
        await hosts.moved()
        after = await answered(hosts.router, ask(2))
        assert after.balance_msat == before.balance_msat - after.cost.debit_msat
        assert hosts.holds(OTHER, SES) and not hosts.holds(FIRST, SES)
        assert 400 < len(hosts.members[OTHER].host.partitions.owned) < 624


async def test_a_request_under_way_ends_where_it_began_and_then_its_partition_moves(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        hosts.world.model.gate.close()
        asking = asyncio.create_task(answered(hosts.router, ask(1)))
        await hosts.world.model.gate.wait_for_arrival()
        hosts.plan(*PAIR)
        await until(lambda: _owns_something(hosts, OTHER))
        assert hosts.holds(FIRST, SES)
        hosts.world.model.gate.open()
        await asking
        await hosts.moved()
        assert len(hosts.world.model.evaluated) == len(hosts.world.model.completed) == 1
        assert (await show(hosts.router)).spent_msat == (await asking).cost.debit_msat


async def _owns_something(hosts: Fleet, host_id: str) -> bool:
    return len(hosts.members[host_id].host.partitions.owned) > 0


async def test_a_request_that_outlasts_all_patience_is_run_again_and_charged_once(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        hosts.world.model.gate.close()
        asking = asyncio.create_task(answered(hosts.router, ask(1, key="key")))
        await hosts.world.model.gate.wait_for_arrival()
        hosts.plan(*PAIR, patience_s=0)
        await hosts.moved()
        await hosts.world.model.gate.wait_for_arrival()
        hosts.world.model.gate.open()
        answer = await asking
        shown = await show(hosts.router)
        assert shown.spent_msat == answer.cost.debit_msat and shown.held_msat.value == 0
        assert len(hosts.world.model.completed) == 1
        assert await answered(hosts.router, ask(1, key="key")) == answer


async def test_what_comes_in_while_a_partition_comes_to_rest_is_answered_by_its_new_owner(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        hosts.world.model.gate.close()
        running = asyncio.create_task(answered(hosts.router, ask(1)))
        await hosts.world.model.gate.wait_for_arrival()
        # With two seconds of patience and less, nothing new is taken up.
        hosts.plan(*PAIR, patience_s=2.0)
        await until(lambda: _owns_something(hosts, OTHER))
        late = asyncio.create_task(answered(hosts.router, ask(2)))
        await asyncio.wait({late}, timeout=0.05)
        assert len(hosts.world.model.evaluated) == 1
        hosts.world.model.gate.open()
        first, second = await asyncio.gather(running, late)
        assert hosts.holds(OTHER, SES)
        assert (await show(hosts.router)).spent_msat == first.cost.debit_msat + second.cost.debit_msat


async def test_a_stream_that_is_cut_off_ends_with_an_error_and_its_hold_is_released(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        hosts.world.model.pieces = ["the ", "answer"]
        replies = hosts.router.stream(SES, ask(1, stream=True))
        hosts.world.model.piece_gate.close()
        first = asyncio.create_task(anext(replies))
        await hosts.world.model.piece_gate.wait_for_arrival()
        # Lets the one through that waits, and holds the next.
        hosts.world.model.piece_gate.open()
        hosts.world.model.piece_gate.close()
        assert await first == TextDelta("the ")
        hosts.plan(*PAIR, patience_s=0)
        await hosts.moved()
        with pytest.raises(RefusedError) as refused:
            await anext(replies)
        assert refused.value.refusal.code is Code.UNAVAILABLE
        shown = await show(hosts.router)
        assert shown.held_msat.value == shown.spent_msat.value == 0
        assert len(hosts.world.model.streamed) == 1


async def test_the_partitions_of_a_dead_host_are_taken_and_its_callers_go_on(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        hosts.members[FIRST].die()
        asking = asyncio.create_task(answered(hosts.router, ask(1)))
        hosts.plan(OTHER)
        await hosts.moved()
        assert (await asking).cost.debit_msat == (await show(hosts.router)).spent_msat


@pytest.mark.parametrize(("died", "told"), [(False, 0), (True, 1)])
async def test_only_a_host_that_should_be_there_is_told_of_when_it_is_not(redis: Redis, died: bool, told: int) -> None:
    """Remains of a server that ended are in the store at every start."""
    async with fleet(redis, FIRST, OTHER) as hosts:
        if died:
            hosts.members[FIRST].die()
        else:
            await hosts.members.pop(FIRST).host.stop(patience_s=0)
        with structlog.testing.capture_logs() as logs:
            hosts.plan(OTHER)
            await hosts.moved()
        assert len([entry for entry in logs if entry["log_level"] == "warning"]) == told


async def test_a_host_that_is_known_to_be_away_is_not_asked(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        hosts.members[FIRST].die()
        hosts.plan(OTHER, away=(FIRST,))
        await hosts.moved()
        assert hosts.members[FIRST].asked == []


async def test_a_host_that_only_seemed_dead_can_write_nothing_more(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        hosts.world.model.gate.close()
        asking = asyncio.create_task(answered(hosts.router, ask(1)))
        await hosts.world.model.gate.wait_for_arrival()
        hosts.members[FIRST].die()
        hosts.plan(OTHER, away=(FIRST,))
        await hosts.moved()
        await hosts.world.model.gate.wait_for_arrival()
        hosts.world.model.gate.open()
        await asking

        async def fenced() -> bool:
            return not hosts.holds(FIRST, SES)

        await until(fenced)
        assert (await show(hosts.router)).spent_msat == (await asking).cost.debit_msat


async def test_a_host_that_was_taken_for_dead_does_not_answer_from_memory_when_it_wakes(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        await show(hosts.router)
        host = hosts.members[FIRST].host
        hosts.members[FIRST].die()
        hosts.plan(OTHER, away=(FIRST,))
        await hosts.moved()
        assert hosts.holds(FIRST, SES)
        host._dispatcher.stall_detector._last_s -= 60  # what a process finds that was stopped for a minute
        await host.submit("queue", [Call(1, SES, GetSession(GRANT))])
        (answer,) = await host.collect("queue")
        assert answer.reply == NotOwner()
        assert not hosts.holds(FIRST, SES)


async def test_what_others_took_over_is_let_go_even_if_nothing_is_written(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await hosts.world.journal.claim([partition_of(SES)], OTHER)
        await hosts.members[FIRST].handover.verify_now_and_then()
        assert not hosts.holds(FIRST, SES)
        assert len(hosts.members[FIRST].host.partitions.owned) == PARTITIONS - 1


async def test_a_plan_that_changes_its_mind_leaves_everything_where_it_is(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        await opened(hosts.router)
        hosts.world.model.gate.close()
        running = asyncio.create_task(answered(hosts.router, ask(1)))
        await hosts.world.model.gate.wait_for_arrival()
        hosts.plan(*PAIR, patience_s=2.0)
        await until(lambda: _owns_something(hosts, OTHER))
        put_aside = asyncio.create_task(answered(hosts.router, ask(2)))
        await asyncio.wait({put_aside}, timeout=0.05)
        hosts.plan(FIRST)
        hosts.world.model.gate.open()
        await asyncio.gather(running, put_aside)
        await hosts.moved()
        assert hosts.holds(FIRST, SES)
        assert len(hosts.members[FIRST].host.partitions.owned) == PARTITIONS


async def test_a_host_of_an_older_plan_does_not_take_back_what_it_gave(redis: Redis) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        older = hosts.placement
        hosts.plan(*PAIR)
        await hosts.moved()
        hosts.members[FIRST].handover.adopt(older)
        assert not hosts.holds(FIRST, SES)
        assert hosts.members[FIRST].handover.placement is hosts.placement


@pytest.mark.parametrize("seed", range(6))
async def test_books_close_whatever_moves_dies_and_gets_lost_meanwhile(redis: Redis, seed: int) -> None:
    """Requests run all the time, while plans change, writes lose their confirmation, and hosts stop answering."""
    chance = random.Random(seed)
    async with fleet(redis, "host-0", "host-1", "host-2") as hosts:
        await opened(hosts.router, 100_000)
        answers: dict[str, RequestAnswer] = {}
        unknown: set[str] = set()
        refusals: list[Code] = []

        async def client(number: int) -> None:
            for turn in range(8):
                key = f"client {number} request {turn}"
                for _ in range(20):
                    try:
                        answers[key] = await answered(hosts.router, ask(number * 100 + turn, key=key))
                        unknown.discard(key)
                        break
                    except RefusedError as error:
                        refusals.append(error.refusal.code)
                        unknown.add(key)

        async def trouble() -> None:
            for _ in range(12):
                match chance.randrange(4):
                    case 0 | 1:
                        members = chance.sample(sorted(hosts.members), chance.randint(1, len(hosts.members)))
                        hosts.plan(*sorted(members), patience_s=chance.choice([0.0, 0.5, 5.0]))
                    case 2:
                        hosts.world.journal.lose_after_writing = chance.randint(0, 2)
                    case 3:
                        hosts.world.journal.lose_before_writing = chance.randint(0, 2)
                await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.03)

        await asyncio.gather(trouble(), *(client(number) for number in range(8)))
        assert len(answers) == 64 and not unknown
        assert set(refusals) <= {Code.UNAVAILABLE}
        shown = await show(hosts.router)
        spent = sum(answer.cost.debit_msat.value for answer in answers.values())
        assert shown.spent_msat.value == spent and shown.held_msat.value == 0
        entries = await ledger(hosts.router)
        assert sum(e.amount_msat.value for e in entries if e.kind == "debit") == spent
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


async def test_a_store_that_does_not_answer_holds_a_move_up_and_no_more(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(redis, FIRST, OTHER) as hosts:
        journal, claim, failures = hosts.world.journal, hosts.world.journal.claim, iter([True, True])

        async def failing(partitions: list[int], host_id: str) -> object:
            if next(failures, False):
                raise TransientError("away")
            return await claim(partitions, host_id)

        monkeypatch.setattr(journal, "claim", failing)
        hosts.plan(*PAIR)
        await hosts.moved()

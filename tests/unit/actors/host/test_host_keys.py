"""Idempotency keys of several credentials on a real host and a real store, through crashes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.domain import idempotency_keys
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.llm.answers import TextDelta
from satmeter.actors.domain.session.messages import Ask, RequestAnswer, TopUp, TopUpInvoice
from satmeter.actors.router.router import Router
from tests.helpers.credentials import grant_of, keyed
from tests.helpers.hosts import World
from tests.helpers.session_steps import SES, answered, ask, opened, show

pytestmark = pytest.mark.usefixtures("placement")

WHOLE = grant_of()
CREW = grant_of("name = crew")
COOK = grant_of("name = crew", "max_msat = 900000")
SCOUT = grant_of("name = crew", "max_msat = 800000")
POOR = grant_of("max_msat = 0")


@pytest.fixture
def world(redis: Redis) -> World:
    """Parts outside of the host."""
    return World(redis)


def asked(number: int, by: Grant, *, stream: bool = False) -> Ask:
    """Send the same request under the same key, by this credential."""
    command: Ask = keyed(ask(number, key="k", stream=stream), by)
    return command


async def code_of(router: Router, command: Ask | TopUp) -> Code:
    """Return the code of the refusal."""
    with pytest.raises(RefusedError) as refused:
        await router.call(SES, command)
    return refused.value.refusal.code


async def text_of(router: Router, command: Ask) -> tuple[str, RequestAnswer]:
    """Return the streamed text, and the end of it."""
    async with aclosing(router.stream(SES, command)) as replies:
        said = [reply async for reply in replies]
    end = said[-1]
    assert isinstance(end, RequestAnswer)
    return "".join(reply.text for reply in said if isinstance(reply, TextDelta)), end


async def test_what_was_bought_is_told_to_its_buyer_and_those_above_also_after_a_crash(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        cook = await answered(router, asked(1, COOK))
    async with world.serving() as (_, router):
        for number, by in enumerate((COOK, CREW, WHOLE), 2):
            assert await answered(router, asked(number, by)) == cook
        scout = await answered(router, asked(5, SCOUT))
        assert scout.request_id == "req_5"
        assert await code_of(router, asked(6, POOR)) is Code.CAVEAT_VIOLATED
        assert await answered(router, asked(7, COOK)) == cook
        assert (await show(router)).spent_msat == cook.cost.debit_msat + scout.cost.debit_msat


async def test_what_the_whole_credential_bought_is_told_to_no_narrowed_one(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        whole = await answered(router, asked(1, WHOLE))
        assert await code_of(router, asked(2, POOR)) is Code.CAVEAT_VIOLATED
        text, end = await text_of(router, asked(3, WHOLE, stream=True))
        assert (text, end) == ("", whole)
        assert (await text_of(router, asked(4, COOK, stream=True)))[1].request_id == "req_4"
        assert (await answered(router, asked(5, WHOLE))) == whole


async def test_callers_of_several_credentials_at_once_are_charged_once_for_each_lineage(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        first = asyncio.create_task(answered(router, asked(1, COOK)))
        await world.model.gate.wait_for_arrival()
        others = [
            asyncio.create_task(answered(router, asked(number, by)))
            for number, by in enumerate((WHOLE, CREW, COOK, SCOUT), 2)
        ]
        await world.model.gate.wait_for_arrival()
        world.model.gate.open()
        answers = [await task for task in (first, *others)]
        assert [answer.request_id for answer in answers] == ["req_1", "req_1", "req_1", "req_1", "req_5"]
        assert (await show(router)).spent_msat == answers[0].cost.debit_msat + answers[-1].cost.debit_msat


async def test_top_ups_of_several_credentials_under_one_key(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        order = TopUp(500, ask(key="k").once, WHOLE)
        cook = await router.call(SES, keyed(order, COOK))
        assert isinstance(cook, TopUpInvoice)
        assert await router.call(SES, keyed(order, CREW)) == cook == await router.call(SES, keyed(order, WHOLE))
        assert await router.call(SES, keyed(order, SCOUT)) != cook
        assert await code_of(router, keyed(order, grant_of("actions = read"))) is Code.CAVEAT_VIOLATED


async def test_an_answer_that_an_earlier_version_kept_is_told_to_its_buyer(world: World, redis: Redis) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        before = await answered(router, replace(ask(1, key="k"), grant=COOK))
        (name,) = await redis.keys("*:k:ses_*")
        kept = await redis.get(name)
        assert isinstance(kept, bytes) and b"buyer" not in kept
    async with world.serving() as (_, router):
        assert await answered(router, asked(2, COOK)) == before
        assert await code_of(router, asked(3, SCOUT)) is Code.IDEMPOTENCY_CONFLICT
        assert await code_of(router, asked(4, grant_of("name = other"))) is Code.IDEMPOTENCY_CONFLICT
        assert await answered(router, asked(5, WHOLE)) == before
        assert (await show(router)).spent_msat == before.cost.debit_msat


async def test_an_earlier_version_reads_what_this_one_keeps_for_the_whole_credential(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        answer = await answered(router, asked(1, WHOLE))
        former = ask(2, key="k")
        assert former.once.name == idempotency_keys.operation(WHOLE, "k", "digest").name
        assert await answered(router, former) == answer

"""Callers who wait for the same thing and leave one by one: who stays is answered, and what is left ends."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.session.messages import RequestAnswer
from tests.helpers.hosts import World, until
from tests.helpers.patience import PATIENCE_S
from tests.helpers.session_steps import SES, answered, ask, opened, show

pytestmark = pytest.mark.usefixtures("placement")


@pytest.fixture
def world(redis: Redis) -> World:
    """Parts outside of the host."""
    return World(redis)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("leaves", [0, 1], ids=["first", "second"])
async def test_who_stays_is_answered_when_another_caller_of_the_same_key_has_left(
    world: World, stream: bool, leaves: int
) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()

        async def last_of(number: int) -> RequestAnswer:
            last = None
            async for reply in router.stream(SES, ask(number, key="k", stream=stream)):
                last = reply
            assert isinstance(last, RequestAnswer)
            return last

        callers = [asyncio.create_task(last_of(1))]
        await world.model.gate.wait_for_arrival()
        callers.append(asyncio.create_task(last_of(2)))
        held = (await show(router)).held_msat
        callers[leaves].cancel()
        await asyncio.wait([callers[leaves]])
        # A cancelled caller is gone by now: the session is asked after it.
        assert (await show(router)).held_msat == held
        world.model.gate.open()
        async with asyncio.timeout(PATIENCE_S):
            answer = await callers[1 - leaves]
        assert answer.text == "the answer"
        assert (await show(router)).spent_msat == answer.cost.debit_msat
        assert await answered(router, ask(3, key="k")) == answer


async def test_what_the_last_of_them_has_left_ends(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.piece_gate.close()

        async def read(number: int) -> None:
            async for _ in router.stream(SES, ask(number, key="k", stream=True)):
                pass

        callers = [asyncio.create_task(read(1))]
        await world.model.piece_gate.wait_for_arrival()
        callers.append(asyncio.create_task(read(2)))
        for caller in callers:
            assert (await show(router)).held_msat.value > 0
            caller.cancel()
            await asyncio.wait([caller])

        async def ended() -> bool:
            return (await show(router)).held_msat.value == 0

        await until(ended)
        assert world.model.stream_closed == 1
        assert (await show(router)).spent_msat.value > 0

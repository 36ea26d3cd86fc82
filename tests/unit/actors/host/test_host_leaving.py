"""Clients that leave before their answer: what is then stopped at the provider, and what of it is charged.

A token of a prompt costs 2.8 msat, one of an answer 14, and work 700 on top.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest
from redis.asyncio import Redis

from satmeter.actors.domain.behaviour import Reply
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.domain.session.messages import Ask, Relay, Relayed, RequestAnswer
from satmeter.actors.ports import ModelError, PermanentError, TransientError
from satmeter.actors.router.router import Router
from tests.helpers.hosts import World, until
from tests.helpers.relays import relay
from tests.helpers.session_steps import GRANT, SES, answered, ask, ledger, opened, show

pytestmark = pytest.mark.usefixtures("placement")
JUDGED = 100 * 28 // 10 + 200 * 14


@pytest.fixture
def world(redis: Redis) -> World:
    """Outside of the host. A prompt has 1,000 tokens when it is counted."""
    world = World(redis)
    world.model.counts = 1_000
    return world


def call_of(name: str = "a", *, stream: bool = False, keyed: bool = False, tokens: int = 300) -> Relay:
    return relay(name, tokens=tokens, stream=stream, keyed=keyed, by=GRANT)


async def _last(router: Router, command: Ask | Relay) -> Reply:
    last: Reply | None = None
    async with aclosing(router.stream(SES, command)) as replies:
        async for reply in replies:
            last = reply
    assert last is not None
    return last


async def leave(world: World, router: Router, command: Ask | Relay, calls: int = 1) -> None:
    """Has something asked for, and leaves as soon as the model has been called so often."""
    waiting = asyncio.create_task(_last(router, command))
    for call in range(calls):
        await world.model.gate.wait_for_arrival()
        if call < calls - 1:
            world.model.gate.open()
            world.model.gate.close()
    waiting.cancel()


async def spent(router: Router) -> int:
    """Return the final charge."""

    async def ended() -> bool:
        return (await show(router)).held_msat == Msat(0)

    await until(ended)
    return (await show(router)).spent_msat.value


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_is_left_during_its_evaluation_costs_the_judge_s_prompt(world: World, stream: bool) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, ask(stream=stream))
        assert await spent(router) == 2_800
        assert world.model.completed == world.model.streamed == []


async def test_one_that_is_left_during_its_work_costs_the_verdict_and_the_prompt(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, ask(), calls=2)
        assert await spent(router) == JUDGED + 2_800 + 700
        assert len(world.model.completed) == 1


async def test_a_whole_call_that_is_left_is_stopped_and_costs_its_prompt(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, call_of())
        assert await spent(router) == 2_800 + 700
        assert world.model.stream_closed == 1
        # The count was asked for without what the provider does not take there.
        assert world.model.counted == [b"{}"]


@pytest.mark.parametrize("command", [ask(stream=True), call_of(stream=True)])
async def test_a_stream_that_is_left_runs_to_its_first_event_which_says_what_it_has_cost(
    world: World, command: Ask | Relay
) -> None:
    judged = JUDGED if isinstance(command, Ask) else 0
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, command, calls=2 if judged else 1)
        assert (await show(router)).held_msat > Msat(0)
        world.model.gate.open()
        # The first event tells of 100 tokens in the prompt; what was given with it is estimated.
        output = 1 if judged else 4
        assert await spent(router) == judged + 280 + output * 14 + 700
        assert world.model.counted == [] and world.model.stream_closed == 1


@pytest.mark.parametrize("command", [ask(stream=True), call_of(stream=True)])
async def test_a_stream_that_stays_silent_is_cut_and_its_prompt_counted(
    world: World, command: Ask | Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("answer", "relay"):
        monkeypatch.setattr(f"satmeter.actors.effects.{module}.LINGERS_S", 0.01)
    judged = JUDGED if isinstance(command, Ask) else 0
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, command, calls=2 if judged else 1)
        assert await spent(router) == judged + 2_800 + 700
        assert world.model.stream_closed == 1


@pytest.mark.parametrize("fault", [TransientError("busy"), PermanentError("unknown")])
async def test_what_can_not_be_counted_is_estimated_at_two_bytes_a_token(
    world: World, fault: TransientError | PermanentError
) -> None:
    world.model.count_fault = fault
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, call_of(tokens=3_000))
        assert await spent(router) == 1_500 * 28 // 10 + 700


async def test_a_count_that_does_not_come_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.effects.relay.COUNTS_WITHIN_S", 0.01)

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(world.model, "count_tokens", never)
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, call_of(tokens=3_000))
        assert await spent(router) == 1_500 * 28 // 10 + 700


@pytest.mark.parametrize("command", [ask(), call_of(), ask(stream=True)])
async def test_it_is_never_charged_more_than_was_held(world: World, command: Ask | Relay) -> None:
    world.model.counts = 50_000_000
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, command)
        held = [entry.amount_msat.value for entry in await ledger(router) if entry.kind == "hold"]
        assert [await spent(router)] == held


@pytest.mark.parametrize("make", [lambda: ask(key="k"), lambda: call_of(keyed=True)])
async def test_under_a_key_a_whole_answer_goes_on_and_is_there_for_who_asks_again(
    world: World, make: Callable[[], Ask | Relay]
) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, make())
        world.model.gate.open()
        answer = await router.call(SES, make())
        assert isinstance(answer, RequestAnswer | Relayed) and answer.ending is Ending.COMPLETE
        assert (
            await spent(router)
            == answer.cost.debit_msat.value
            == (JUDGED if isinstance(answer, RequestAnswer) else 0) + JUDGED + 700
        )
        assert world.model.counted == [] and len(world.model.completed) + len(world.model.relayed) == 1


async def test_one_of_two_who_wait_for_the_same_may_leave(world: World) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        first, second = (asyncio.create_task(_last(router, ask())) for _ in range(2))
        await world.model.gate.wait_for_arrival()
        await until(lambda: _both_wait(router))
        first.cancel()
        world.model.gate.open()
        answer = await second
        assert isinstance(answer, RequestAnswer) and answer.ending is Ending.COMPLETE
        assert await spent(router) == answer.cost.debit_msat.value


async def _both_wait(router: Router) -> bool:
    # Commands of one session are taken in their order: once this one is answered, both others wait.
    await show(router)
    return True


async def test_who_leaves_between_two_attempts_of_a_failing_model_pays_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.model.faults = [ModelError("busy", ModelFault.UNAVAILABLE, answered=True) for _ in range(3)]
    paused, go_on = asyncio.Event(), asyncio.Event()

    async def pause(_: float) -> None:
        paused.set()
        await go_on.wait()

    monkeypatch.setattr(world, "pause", pause)
    async with world.serving() as (_, router):
        await opened(router)
        waiting = asyncio.create_task(answered(router, ask()))
        await paused.wait()
        waiting.cancel()
        assert await spent(router) == 0
        go_on.set()
    assert len(world.model.evaluated) == 1 and world.model.counted == []


async def test_a_stream_that_fails_after_its_client_has_left_is_not_sent_again(world: World) -> None:
    world.model.faults = [TransientError("busy")]
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave(world, router, call_of(stream=True))
        world.model.gate.open()
        assert await spent(router) == 0
        assert len(world.model.relayed) == 1

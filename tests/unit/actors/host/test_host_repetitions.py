"""Calls that a client's library gives up and sends again: one call to the model, and one debit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.domain.behaviour import Attempt, Once, Reply
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.session.messages import Ask, EntryKind, Relay, Relayed, RequestAnswer
from satmeter.actors.ports import TransientError
from satmeter.actors.router.router import Router
from tests.helpers.hosts import World, until
from tests.helpers.relays import relay
from tests.helpers.session_steps import GRANT, SES, ask, ledger, opened, show

pytestmark = pytest.mark.usefixtures("placement")
Answer = RequestAnswer | Relayed
T = TypeVar("T")


@pytest.fixture
def world(redis: Redis) -> World:
    """Outside of the host. A prompt has 1,000 tokens when it is counted."""
    world = World(redis)
    world.model.counts = 1_000
    return world


def asking(name: str, number: int = 0, digest: str = "same") -> Ask:
    once = Once(f"req_{name}", "", keyed=False)
    return replace(ask(0), request_id=f"req_{name}", once=once, attempt=Attempt(digest, number))


def calling(name: str, number: int = 0, digest: str = "same") -> Relay:
    made = relay(name, keyed=False, by=GRANT, digest="")
    return replace(made, once=replace(made.once, name=f"req_{name}"), attempt=Attempt(digest, number))


KINDS = pytest.mark.parametrize("sent", [asking, calling])
Sent = Callable[..., Ask | Relay]


async def answer_to(router: Router, command: Ask | Relay) -> Answer:
    answer = await router.call(SES, command)
    assert isinstance(answer, RequestAnswer | Relayed)
    return answer


def send(router: Router, command: Ask | Relay) -> asyncio.Task[Answer]:
    return asyncio.create_task(answer_to(router, command))


async def give_up(world: World, router: Router, *commands: Ask | Relay) -> None:
    """Sends these, and leaves when all of them are at the model."""
    tasks = [send(router, command) for command in commands]
    for _ in commands:
        await world.model.gate.wait_for_arrival()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def calls_of(world: World) -> int:
    return len(world.model.evaluated) + len(world.model.relayed)


async def debits(router: Router) -> list[int]:
    """Return the debits, once nothing is held any more."""

    async def ended() -> bool:
        return (await show(router)).held_msat == Msat(0)

    await until(ended)
    return [entry.amount_msat.value for entry in await ledger(router) if entry.kind is EntryKind.DEBIT]


@KINDS
async def test_a_repetition_joins_the_call_that_was_given_up(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await give_up(world, router, sent("a"))
        again = send(router, sent("b", 1))
        await show(router)
        again.cancel()
        third = send(router, sent("c", 2))
        await show(router)
        world.model.gate.open()
        answer = await third
        assert (answer.request_id, answer.ending) == ("req_a", Ending.COMPLETE)
        assert await debits(router) == [answer.cost.debit_msat.value]
        assert calls_of(world) == 1 and world.model.counted == []


@KINDS
async def test_a_repetition_gets_the_answer_that_came_meanwhile(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await give_up(world, router, sent("a"))
        world.model.gate.open()
        charged = await debits(router)
        answer = await answer_to(router, sent("b", 1))
        assert answer.request_id == "req_a" and charged == [answer.cost.debit_msat.value] == await debits(router)
        assert await answer_to(router, sent("c", 2)) == answer
        assert calls_of(world) == 1


@KINDS
async def test_a_repetition_of_what_was_answered_just_now_gets_the_same(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        first = await answer_to(router, sent("a"))
        assert await answer_to(router, sent("b", 1)) == first
        assert await debits(router) == [first.cost.debit_msat.value] and calls_of(world) == 1


@KINDS
async def test_a_repetition_joins_a_call_whose_client_is_not_known_to_have_left(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        first = send(router, sent("a"))
        await world.model.gate.wait_for_arrival()
        second = send(router, sent("b", 1))
        await show(router)
        world.model.gate.open()
        assert await first == await second
        assert len(await debits(router)) == 1 and calls_of(world) == 1


@KINDS
async def test_one_that_is_not_sent_again_ends_after_a_while_and_costs_its_prompt(
    world: World, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satmeter.actors.domain.behaviour._PAUSE_MAX_MS", 0)
    monkeypatch.setattr("satmeter.actors.domain.behaviour._ON_THE_WAY_MS", 50)
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await give_up(world, router, sent("a"))
        assert (await show(router)).held_msat > Msat(0)
        prompt = 2_800 if sent is asking else 2_800 + 700
        assert await debits(router) == [prompt]
        # It comes too late: what was left is not an answer, and the model is asked again.
        world.model.gate.open()
        late = await answer_to(router, sent("b", 1))
        assert (late.request_id, late.ending) == ("req_b", Ending.COMPLETE)
        assert await debits(router) == [prompt, late.cost.debit_msat.value]


@KINDS
async def test_calls_that_are_sent_for_the_first_time_are_never_the_same(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        answers = await asyncio.gather(*(send(router, sent(name)) for name in "abc"))
        assert {answer.request_id for answer in answers} == {"req_a", "req_b", "req_c"}
        assert len(await debits(router)) == calls_of(world) == 3


@KINDS
async def test_each_of_several_alike_gets_the_call_of_one_of_them(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await give_up(world, router, *(sent(name) for name in "abc"))
        waiting = [send(router, sent(name, 1)) for name in "de"]
        await show(router)
        world.model.gate.open()
        answers = await asyncio.gather(*waiting)
        assert len(await debits(router)) == 3 == calls_of(world)
        answers.append(await answer_to(router, sent("f", 1)))
        assert {answer.request_id for answer in answers} == {"req_a", "req_b", "req_c"}
        assert len(await debits(router)) == 3 == calls_of(world)


@KINDS
async def test_another_request_is_no_repetition(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await give_up(world, router, sent("a"))
        other = send(router, sent("b", 1, "other"))
        await world.model.gate.wait_for_arrival()
        world.model.gate.open()
        assert (await other).request_id == "req_b" and calls_of(world) == 2


@KINDS
async def test_a_repetition_finds_the_answer_after_its_host_has_died(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await give_up(world, router, sent("a"))
        world.model.gate.open()
        charged = await debits(router)
    async with world.serving() as (_, router):
        answer = await answer_to(router, sent("b", 1))
        assert answer.request_id == "req_a" and charged == [answer.cost.debit_msat.value] == await debits(router)
    assert calls_of(world) == 1


@KINDS
async def test_a_repetition_of_what_died_with_its_host_is_charged_once(world: World, sent: Sent) -> None:
    world.model.gate.close()
    async with world.serving() as (_, router):
        await opened(router)
        await give_up(world, router, sent("a"))
    world.model.gate.open()
    async with world.serving() as (_, router):
        answer = await answer_to(router, sent("b", 1))
        assert answer.request_id == "req_b" and await debits(router) == [answer.cost.debit_msat.value]


@KINDS
async def test_what_failed_is_asked_for_anew(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await give_up(world, router, sent("a"))
        world.model.faults = [TransientError("busy")]
        world.model.gate.open()
        assert await debits(router) == []
        answer = await answer_to(router, sent("b", 1))
        assert answer.request_id == "req_b" and await debits(router) == [answer.cost.debit_msat.value]


async def test_a_library_waits_longer_each_time_before_it_comes_again() -> None:
    assert [Attempt("", number).next_within_ms for number in (0, 1, 2, 3, 4, 5, 999)] == [
        2_500, 3_000, 4_000, 6_000, 10_000, 10_000, 10_000,
    ]  # fmt: skip


# Streams


def streaming(sent: Sent, name: str, number: int = 0, headed_after_ms: int = 60_000) -> Ask | Relay:
    return replace(sent(name), stream=True, attempt=Attempt("same", number, headed_after_ms))


async def last_of(router: Router, command: Ask | Relay) -> tuple[Answer, int]:
    """Return the end of a stream, and the number of replies before it."""
    async with aclosing(router.stream(SES, command)) as found:
        replies: list[Reply] = [reply async for reply in found]
    assert isinstance(replies[-1], RequestAnswer | Relayed)
    return replies[-1], len(replies) - 1


async def leave_stream(world: World, router: Router, command: Ask | Relay) -> None:
    task = asyncio.create_task(last_of(router, command))
    await world.model.gate.wait_for_arrival()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@KINDS
async def test_a_repetition_of_a_stream_that_was_left_before_its_head_joins_it(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave_stream(world, router, streaming(sent, "a"))
        again = asyncio.create_task(last_of(router, streaming(sent, "b", 1)))
        await show(router)
        world.model.gate.open()
        answer, pieces = await again
        assert (answer.request_id, answer.ending) == ("req_a", Ending.COMPLETE) and pieces
        assert await debits(router) == [answer.cost.debit_msat.value]
        assert calls_of(world) == 1


@KINDS
async def test_a_repetition_of_a_stream_that_ended_meanwhile_gets_its_answer(world: World, sent: Sent) -> None:
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave_stream(world, router, streaming(sent, "a"))
        world.model.gate.open()
        charged = await debits(router)
        answer, _ = await last_of(router, streaming(sent, "b", 1))
        assert answer.request_id == "req_a" and charged == [answer.cost.debit_msat.value] == await debits(router)
        assert calls_of(world) == 1


@KINDS
async def test_a_stream_whose_client_has_had_its_head_ends_at_once(world: World, sent: Sent) -> None:
    """A library that has read the head sends nothing again, and pays for no text that it does not want."""
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        await leave_stream(world, router, streaming(sent, "a", headed_after_ms=0))
        await show(router)
        answer, _ = await _beside(world, last_of(router, streaming(sent, "b", 1)))
        assert answer.request_id == "req_b"
        assert len(await debits(router)) == 2


async def _beside(world: World, asking: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(asking)
    await world.model.gate.wait_for_arrival()
    world.model.gate.open()
    return await task

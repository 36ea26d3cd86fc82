"""Conversations: answers that come in time or later, moves of the actor, and the end of a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.answers import Held
from satmeter.actors.domain.llm.relays import RelayBytes
from satmeter.actors.messages import Answer, Call, Cancel, NotOwner, WireReply
from satmeter.actors.router.conversation import Conversation
from satmeter.actors.router.lane import Pending
from tests.helpers.relays import relay
from tests.helpers.session_steps import SES
from tests.unit.actors.router.test_router import NOT_FOUND, FakeHost
from tests.unit.actors.router.test_router_moves import Pair

HELD = Held(100, 0)
LONG_S = 10.0


async def opened(pair: Pair) -> Conversation[Any, Any]:
    # Where hosts are is known from the first call on.
    await pair.router._lanes.routing.look()
    return pair.router.open(SES, relay(stream=True))


async def test_an_answer_that_comes_in_time_is_given() -> None:
    pair = Pair()
    conversation = await opened(pair)
    waiting = asyncio.create_task(conversation.within(LONG_S))
    (call,) = await pair.hosts["host-0"].calls(1)
    pair.hosts["host-0"].answer(call.call_id, HELD, last=False)
    assert await waiting == HELD
    conversation.close()
    await pair.router.close()


async def test_an_answer_that_comes_later_is_not_lost() -> None:
    pair = Pair()
    conversation = await opened(pair)
    assert await conversation.within(0.0) is None
    (call,) = await pair.hosts["host-0"].calls(1)
    assert await conversation.within(0.01) is None
    pair.hosts["host-0"].answer(call.call_id, HELD, last=False)
    assert await anext(conversation) == HELD
    conversation.close()
    await cancelled(pair.hosts["host-0"], call)
    await pair.router.close()


async def test_a_wait_without_a_limit_ends_when_the_client_has_gone_and_loses_no_answer() -> None:
    pair, gone = Pair(), asyncio.get_running_loop().create_future()
    conversation = await opened(pair)
    assert not conversation.waits
    waiting = asyncio.create_task(conversation.within(None, gone))
    (call,) = await pair.hosts["host-0"].calls(1)
    assert conversation.waits and not waiting.done()
    gone.set_result(None)
    assert await waiting is None
    assert await conversation.within(None, gone) is None
    pair.hosts["host-0"].answer(call.call_id, HELD, last=False)
    assert await anext(conversation) == HELD
    conversation.close()
    await pair.router.close()


async def test_a_wait_in_time_looks_for_no_host() -> None:
    pair = Pair()
    conversation = pair.router.open(SES, relay(stream=True))
    assert await conversation.within(LONG_S) is None
    waiting = asyncio.create_task(anext(conversation))
    (call,) = await pair.hosts["host-0"].calls(1)
    pair.hosts["host-0"].answer(call.call_id, HELD, last=False)
    assert await waiting == HELD
    conversation.close()
    await pair.router.close()


async def test_an_actor_that_moves_while_it_is_waited_for_is_found_by_the_next_wait() -> None:
    pair = Pair()
    conversation = await opened(pair)
    waiting = asyncio.create_task(conversation.within(LONG_S))
    (call,) = await pair.hosts["host-0"].calls(1)
    pair.move("host-1")
    pair.hosts["host-0"].answer(call.call_id, NotOwner())
    assert await waiting is None
    assert await conversation.within(LONG_S) is None, "it does not search"
    again = asyncio.create_task(anext(conversation))
    (second,) = await pair.hosts["host-1"].calls(1)
    assert second.resent
    pair.hosts["host-1"].answer(second.call_id, HELD, last=False)
    assert await again == HELD
    conversation.close()
    await pair.router.close()


async def test_a_wait_that_is_cancelled_ends_the_call() -> None:
    pair = Pair()
    conversation = await opened(pair)
    waiting = asyncio.create_task(conversation.within(LONG_S))
    (call,) = await pair.hosts["host-0"].calls(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await cancelled(pair.hosts["host-0"], call)
    with pytest.raises(StopAsyncIteration):
        await anext(conversation)
    await pair.router.close()


async def test_a_refusal_ends_the_call() -> None:
    pair = Pair()
    conversation = await opened(pair)
    waiting = asyncio.create_task(conversation.within(LONG_S))
    (call,) = await pair.hosts["host-0"].calls(1)
    pair.hosts["host-0"].answer(call.call_id, NOT_FOUND)
    with pytest.raises(RefusedError):
        await waiting
    assert [reply async for reply in conversation] == []
    await pair.router.close()


async def cancelled(host: FakeHost, call: Call) -> None:
    """Return when the host was told that no caller waits any more."""
    while not any(
        isinstance(sent, Cancel) and sent.call_id == call.call_id for batch in host.batches for sent in batch
    ):
        await asyncio.sleep(0)


async def test_bytes_that_wait_become_one_answer_and_nothing_else_is_joined() -> None:
    pending = Pending(Call(1, SES, relay(stream=True)), 0.0)
    replies: list[WireReply] = [HELD, RelayBytes(b"1"), RelayBytes(b"2"), RelayBytes(b"3"), HELD, RelayBytes(b"4")]
    for reply in replies:
        pending.put(Answer(1, reply, False))
    pending.put(Answer(1, NOT_FOUND))
    found = [await pending.next() for _ in range(5)]
    assert [answer.reply for answer in found] == [HELD, RelayBytes(b"123"), HELD, RelayBytes(b"4"), NOT_FOUND]
    assert [answer.last for answer in found] == [False] * 4 + [True]

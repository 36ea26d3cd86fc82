"""Replies that a router of an earlier version can't read go to routers that asked for them, and to no other."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import get_args

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.domain.llm.answers import Held
from satmeter.actors.domain.session.messages import Ask, RequestAnswer
from satmeter.actors.host.replies import ReplyQueue
from satmeter.actors.messages import WireReply
from satmeter.actors.router.router import Router
from tests.helpers.hosts import World
from tests.helpers.session_steps import SES, ask, opened, show

# Tags that every router knows since the first version. A further one needs a field of its command by which a router
# asks for it, as `tells_hold` does for "held", or a command of its own, as "payout_plan" has.
_SINCE_THE_FIRST = {
    "counted", "demo", "job", "ledger_page", "not_owner", "pong", "receipt", "refusal", "relay_bytes",
    "relay_head", "relayed", "request_answer", "session", "session_created", "settled", "text_delta",
    "top_up_invoice",
}  # fmt: skip


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


async def _replies_to(router: Router, command: Ask) -> list[WireReply]:
    async with aclosing(router.stream(SES, command)) as replies:
        return [reply async for reply in replies]


@pytest.mark.usefixtures("placement")
@pytest.mark.parametrize("new_first", [True, False])
async def test_only_the_one_that_asked_is_told_of_the_hold_when_two_join_by_a_key(
    world: World, *, new_first: bool
) -> None:
    """During an upgrade one front is of the version before, whose connection breaks at a reply that it can't read."""
    async with world.serving() as (_, router):
        await opened(router)
        world.model.gate.close()
        commands = [replace(ask(key="k"), tells_hold=new_first), replace(ask(key="k"), tells_hold=not new_first)]
        first = asyncio.create_task(_replies_to(router, commands[0]))
        await world.model.gate.wait_for_arrival()
        second = asyncio.create_task(_replies_to(router, commands[1]))
        replies = [first, second]
        # Commands of one session are taken in their order: once this one is answered, both others wait.
        await show(router)
        world.model.gate.open()
        for command, task in zip(commands, replies, strict=True):
            kinds = [type(reply) for reply in await task]
            assert kinds == ([Held, RequestAnswer] if command.tells_hold else [RequestAnswer])


async def test_a_caller_that_did_not_ask_for_the_hold_is_not_told_of_it() -> None:
    queue = ReplyQueue(0.0)
    queue.reply_to(1).answer(Held(100, 0), last=False)
    queue.reply_to(2, tells_hold=True).answer(Held(100, 0), last=False)
    assert [answer.call_id for answer in await queue.collect(1)] == [2]


def test_no_reply_is_new_to_an_earlier_router_that_did_not_ask_for_it() -> None:
    # Each of these answers a command, or a wish, that an earlier router doesn't know.
    asked_for = {"held", "payout_plan", "shown_invoice"}
    assert {kind.__struct_config__.tag for kind in get_args(WireReply)} == _SINCE_THE_FIRST | asked_for

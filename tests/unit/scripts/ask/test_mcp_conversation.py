"""The end of `satmeter mcp`: what was asked before the input ended is answered, and nothing is waited for for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest_asyncio
from mcp.server import MCPServer
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCNotification, JSONRPCRequest

from satmeter.scripts.ask.mcp_conversation import Conversation
from tests.helpers.fakes import Gate
from tests.helpers.patience import PATIENCE_S

HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@dataclass
class Talk:
    """A server whose tools wait at the gate, and its client's ends of the streams."""

    gate: Gate = field(default_factory=Gate)
    ended: list[str] = field(default_factory=list)
    conversation: Conversation = field(default_factory=Conversation)

    def __post_init__(self) -> None:
        self.gate.close()
        self.to_server, incoming = anyio.create_memory_object_stream[Any](10)
        outgoing, self.from_server = anyio.create_memory_object_stream[Any](10)
        server: MCPServer[Any] = MCPServer("test", log_level="ERROR")
        server.tool(name="buy")(self.buy)
        self.serving = asyncio.create_task(self.conversation.run(server, incoming, outgoing))

    async def buy(self, what: str) -> str:
        try:
            await self.gate.pass_through()
        except asyncio.CancelledError:
            self.ended.append(f"{what} was cut off")
            raise
        self.ended.append(f"{what} was bought")
        return what

    def says(self, method: str, request_id: int | None = None, **params: Any) -> None:
        message: Any = JSONRPCNotification(jsonrpc="2.0", method=method, params=params)
        if request_id is not None:
            message = JSONRPCRequest(jsonrpc="2.0", id=request_id, method=method, params=params)
        self.to_server.send_nowait(SessionMessage(message))

    async def begin(self) -> None:
        self.says("initialize", 1, **HELLO)
        assert (await self.from_server.receive()).message.id == 1
        self.says("notifications/initialized")

    def buys(self, request_id: int) -> None:
        self.says("tools/call", request_id, name="buy", arguments={"what": str(request_id)})

    async def end(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.serving

    def answers(self) -> list[Any]:
        found = []
        while True:
            try:
                found.append(self.from_server.receive_nowait().message.id)
            except (anyio.WouldBlock, anyio.EndOfStream):
                return found


@pytest_asyncio.fixture
async def talk() -> AsyncIterator[Talk]:
    found = Talk()
    await found.begin()
    yield found
    found.serving.cancel()
    await asyncio.gather(found.serving, return_exceptions=True)
    for stream in (found.to_server, found.from_server):
        stream.close()


async def test_calls_under_way_at_the_end_of_the_input_are_answered(talk: Talk) -> None:
    talk.buys(2)
    talk.buys(3)
    talk.to_server.close()
    await talk.gate.wait_for_arrival()
    await talk.gate.wait_for_arrival()
    assert talk.conversation.input_ended and not talk.serving.done()
    talk.gate.open()
    await talk.end()
    assert sorted(talk.answers()) == [2, 3] and len(talk.ended) == 2 and "cut off" not in str(talk.ended)


async def test_without_a_call_it_ends_with_its_input(talk: Talk) -> None:
    talk.to_server.close()
    await talk.end()


async def test_the_wait_for_the_last_answers_is_bounded() -> None:
    talk = Talk(conversation=Conversation(ends_within_s=0.05))
    await talk.begin()
    talk.buys(2)
    talk.to_server.close()
    await talk.end()
    assert talk.ended == ["2 was cut off"]
    talk.from_server.close()


async def test_it_can_be_ended_before_that(talk: Talk) -> None:
    talk.buys(2)
    talk.to_server.close()
    await talk.gate.wait_for_arrival()
    talk.conversation.give_up()
    await talk.end()
    assert talk.ended == ["2 was cut off"]


async def test_a_call_that_its_client_cancels_is_not_waited_for(talk: Talk) -> None:
    talk.buys(2)
    await talk.gate.wait_for_arrival()
    talk.says("notifications/cancelled", requestId=2)
    talk.to_server.close()
    await talk.end()
    assert talk.ended == ["2 was cut off"]

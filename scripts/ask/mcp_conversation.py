"""Standard input and output of `satmeter mcp`: what was asked before the input ended is still answered.

The SDK cancels the calls under way when its input ends, and their results, which may be paid for, would be lost.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server import MCPServer
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

# Longer than the longest call waits for its job.
_ENDS_WITHIN_S: Final = 300.0
_CANCELLED: Final = "notifications/cancelled"


class Conversation:
    """The messages between a client and the server, and the requests among them that have no answer yet."""

    def __init__(self, ends_within_s: float = _ENDS_WITHIN_S) -> None:
        self._ends_within_s = ends_within_s
        self._open: set[str] = set()
        self._answered = asyncio.Event()
        self._answered.set()
        self._given_up = asyncio.Event()
        self.input_ended = False

    async def run(self, server: MCPServer[Any], incoming: Any, outgoing: Any) -> None:
        """Serve these streams until the input has ended and all of its requests are answered, or it is given up."""
        low_level = server._lowlevel_server  # noqa: SLF001 - the SDK runs a server on streams only by this
        to_server, requests = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        answers, from_server = anyio.create_memory_object_stream[SessionMessage](0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._take_in, incoming, to_server)
            tasks.start_soon(self._give_out, from_server, outgoing)
            await low_level.run(requests, answers, low_level.create_initialization_options())

    async def wait(self, within_s: float) -> None:
        """Wait until all requests are answered, for at most so long."""
        try:
            async with asyncio.timeout(within_s):
                await self._answered.wait()
        except TimeoutError:
            pass  # The payment is in the session file.

    def give_up(self) -> None:
        """Wait for no answer any more once the input has ended."""
        self._given_up.set()

    async def _take_in(self, incoming: Any, to_server: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        async with incoming, to_server:
            async for item in incoming:
                self._note_asked(item)
                await to_server.send(item)
            self.input_ended = True
            await self._last_answers()

    async def _last_answers(self) -> None:
        ends = [asyncio.ensure_future(event.wait()) for event in (self._answered, self._given_up)]
        try:
            await asyncio.wait(ends, timeout=self._ends_within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    async def _give_out(self, from_server: MemoryObjectReceiveStream[SessionMessage], outgoing: Any) -> None:
        async with from_server, outgoing:
            async for item in from_server:
                await outgoing.send(item)
                if isinstance(item.message, JSONRPCResponse | JSONRPCError):
                    self._note_answered(item.message.id)

    def _note_asked(self, item: SessionMessage | Exception) -> None:
        message = None if isinstance(item, Exception) else item.message
        if isinstance(message, JSONRPCRequest):
            self._open.add(str(message.id))
            self._answered.clear()
        elif isinstance(message, JSONRPCNotification) and message.method == _CANCELLED:
            self._note_answered((message.params or {}).get("requestId"))

    def _note_answered(self, request_id: object) -> None:
        self._open.discard(str(request_id))
        if not self._open:
            self._answered.set()


async def converse(server: MCPServer[Any], conversation: Conversation) -> None:
    """Serve standard input and output."""
    async with stdio_server() as (incoming, outgoing):
        await conversation.run(server, incoming, outgoing)

"""Streamed answers of the Messages API as a test writes them down, and a provider that sends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import httpx2

from satmeter.actors.adapters.anthropic.client import AnthropicProvider
from satmeter.actors.domain.llm.answers import Completion, StreamPart, TextDelta, UsageSoFar
from satmeter.actors.domain.llm.reported_usage import ReportedUsage
from satmeter.actors.domain.pricing import Usage
from tests.helpers.http.over_transport import OverTransport

MODEL = "claude-sonnet-5-5"
FIRST_USAGE = {
    "input_tokens": 10,
    "output_tokens": 1,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1},
}
STOP = {"type": "message_stop"}
SECRET = "the-secret-words-of-a-client"


def start(usage: Any = FIRST_USAGE) -> dict[str, Any]:
    """The first event, with the first count."""
    return {"type": "message_start", "message": {"id": "msg_1", "type": "message", "content": [], "usage": usage}}


def block(kind: str = "text", index: int = 0, **fields: Any) -> dict[str, Any]:
    """The beginning of a content block."""
    shown = {"type": kind, "text": ""} if kind == "text" else {"type": kind}
    return {"type": "content_block_start", "index": index, "content_block": shown | fields}


def delta(text: Any, index: int = 0, kind: str = "text_delta") -> dict[str, Any]:
    """A piece of a content block."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, "text": text}}


def change(stop_reason: str | None = "end_turn", usage: Any = None) -> dict[str, Any]:
    """Why it ended, with the last count."""
    counted = {"output_tokens": 20} if usage is None else usage
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": None}, "usage": counted}


def error(kind: str, message: str = SECRET) -> dict[str, Any]:
    """The provider's error in place of an end."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def sse(*events: dict[str, Any], newline: str = "\n") -> bytes:
    """Events as they are sent."""
    lines = [
        line
        for event in events
        for line in (f"event: {event['type']}", f"data: {json.dumps(event, ensure_ascii=False)}", "")
    ]
    return (newline.join(lines) + newline).encode()


WHOLE = (start(), block(), {"type": "ping"}, delta("Héllo, "), delta("wörld 🌍"), change(), STOP)
EVERY_KIND = (
    start(),
    {"type": "ping"},
    block("thinking", 0, thinking="", signature=""),
    delta("", 0, "thinking_delta") | {"delta": {"type": "thinking_delta", "thinking": "Let me see… "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    block("redacted_thinking", 1, data="c2VjcmV0"),
    {"type": "content_block_stop", "index": 1},
    block("text", 2),
    delta("Héllo 🌍", 2),
    {"type": "content_block_delta", "index": 2, "delta": {"type": "citations_delta", "citation": {"type": "char"}}},
    {"type": "content_block_stop", "index": 2},
    block("tool_use", 3, id="toolu_1", name="weather", input={}),
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": '{"city":'}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": '"Zürich"}'}},
    {"type": "content_block_stop", "index": 3},
    {"type": "an_event_of_tomorrow", "what": ["ever", {"it": "is"}]},
    change("tool_use", {"output_tokens": 77, "cache_read_input_tokens": None}),
    STOP,
)
FIRST_REPORT = ReportedUsage(first=json.dumps(FIRST_USAGE), partial=True)
LAST_REPORT = ReportedUsage(first=json.dumps(FIRST_USAGE), later=('{"output_tokens": 20}',))
WHOLE_PARTS = [
    UsageSoFar(Usage(10, 1, 4, 2, 1), reported=FIRST_REPORT),
    TextDelta("Héllo, "),
    TextDelta("wörld 🌍"),
    UsageSoFar(Usage(10, 20, 4, 2, 1), final=True, reported=LAST_REPORT),
    Completion("Héllo, wörld 🌍", MODEL, Usage(10, 20, 4, 2, 1), "end_turn", LAST_REPORT),
]


class Body(httpx2.AsyncByteStream):
    """Bytes as the provider sends them; notes what was taken and that it was closed. Hangs after them if told to."""

    def __init__(self, chunks: Sequence[bytes | Exception], hangs: bool = False) -> None:
        self._chunks = chunks
        self._hangs = hangs
        self.taken = 0
        self.waits = asyncio.Event()
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.taken += 1
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
        if self._hangs:
            self.waits.set()
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed += 1


class Provider(httpx2.AsyncBaseTransport):
    """Answers every request with the same body."""

    def __init__(self, body: Body, headers: dict[str, str] | None = None) -> None:
        self._body = body
        self._headers = {"content-type": "text/event-stream"} | (headers or {})
        self.sent: dict[str, Any] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent = json.loads(await request.aread())
        return httpx2.Response(200, headers=self._headers, stream=self._body)


def model(transport: httpx2.AsyncBaseTransport, timeout_s: float = 30.0) -> AnthropicProvider:
    """The adapter over a transport."""
    return AnthropicProvider(OverTransport(transport, timeout_s), base_url="http://api.test", key="sk-test")


async def collect(made: AnthropicProvider, found: list[StreamPart], request: str = "Say hello") -> None:
    """Reads a stream to its end into a list, which has what came before a failure."""
    async with aclosing(made.stream(request, model=MODEL, max_tokens=100)) as parts:
        async for part in parts:
            found.append(part)  # noqa: PERF401 - what came before a failure stays

"""A provider that a test plays, under relayed calls."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

import httpx2

from satmeter.actors.domain.behaviour import Once, Reply
from satmeter.actors.domain.llm.intents import RelayRequest
from satmeter.actors.domain.llm.relays import RelayBody, RelayBytes, RelayOutcome, RelayPart
from satmeter.actors.effects.progress import ProgressChannel
from satmeter.actors.effects.relay import RelayEffect
from tests.helpers.anthropic_streams import MODEL, Body, model
from tests.helpers.upstreams import over

AT_MS = 1_790_000_000_000
ONCE = Once("a", "digest", keyed=False)
BODY = b'{ "model": "claude-sonnet-5-5",\t"max_tokens":5, "messages":[{"role":"user","content":"h\\u00e9llo"}] }'
CALL = RelayBody(BODY, 5, BODY.index(b"5,"), BODY.index(b"5,") + 1)


class Upstream(httpx2.AsyncBaseTransport):
    """Notes what came, and answers by a function."""

    def __init__(self, reply: Callable[[httpx2.Request], httpx2.Response]) -> None:
        self._reply = reply
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.requests.append(request)
        return self._reply(request)


def streaming(*chunks: bytes | Exception, hangs: bool = False) -> tuple[Upstream, Body]:
    body = Body(chunks, hangs)
    headers = {"content-type": "text/event-stream; charset=utf-8", "anthropic-organization-id": "ours"}
    return Upstream(lambda _: httpx2.Response(200, headers=headers, stream=body)), body


def answering(status: int, body: bytes, **headers: str) -> Upstream:
    return Upstream(
        lambda _: httpx2.Response(status, content=body, headers={"content-type": "application/json"} | headers)
    )


async def parts_of(
    upstream: Upstream, *, stream: bool = True, beta: bool = False, found: list[RelayPart] | None = None
) -> list[RelayPart]:
    made, found = model(upstream), [] if found is None else found
    async with aclosing(
        made.relay(
            BODY,
            {"anthropic-beta": "x-2026", "anthropic-version": "2023-06-01"},
            model=MODEL,
            beta=beta,
            stream=stream,
        )
    ) as parts:
        async for part in parts:
            found.append(part)
    await made.close()
    return found


def data_of(parts: list[RelayPart]) -> bytes:
    return b"".join(part.data for part in parts if isinstance(part, RelayBytes))


async def relay(
    upstream: Upstream, *, stream: bool = True, clock: Callable[[], float] | None = None
) -> tuple[RelayOutcome, list[Reply]]:
    said: list[Reply] = []
    relaying = RelayEffect(over(model(upstream)), *([clock] if clock else []))
    intent = RelayRequest("request:a", CALL, {}, False, stream, MODEL, 5, AT_MS, ONCE)
    return await relaying.relay(intent, ProgressChannel(said.append)), said

"""The direct way of a relayed stream gives the same parts, in the same order, as the one from part to part."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from satmeter.actors.adapters.anthropic import relay
from satmeter.actors.adapters.anthropic.relay import RelayedStream
from satmeter.actors.domain.llm.relays import Give, RelayBytes, RelayPart, RelaySoFar
from satmeter.actors.ports import PortError
from tests.helpers.anthropic_streams import EVERY_KIND, MODEL, STOP, block, change, delta, error, model, sse, start
from tests.helpers.anthropic_upstream import BODY, streaming

BEGUN = sse(start(), block(), delta("x" * 50))
STREAMS: list[list[bytes | Exception]] = [
    [sse(*EVERY_KIND)],
    [sse(event) for event in EVERY_KIND],
    [sse(*EVERY_KIND)[at : at + 7] for at in range(0, len(sse(*EVERY_KIND)), 7)],
    [b": hm\n\n", BEGUN, b"data: nonsense\n\n", sse(change(), STOP), b"\n"],
    [sse(start(), block("text", text="Hello")) + sse(error("overloaded_error"))],
    [sse(error("overloaded_error"))],
    [sse(start()) + sse(error("overloaded_error"))],
    [BEGUN, sse(error("invalid_request_error"))],
    [BEGUN, httpx2.ReadError("gone")],
    [BEGUN, sse(delta("more")), httpx2.ReadError("gone")],
    [BEGUN],
    [b"<html>"],
    [],
]


async def relayed(chunks: list[bytes | Exception], *, direct: bool) -> tuple[list[RelayPart], list[RelayPart], str]:
    """All parts, those among them that were not yielded, and the error."""
    found: list[RelayPart] = []
    given: list[RelayPart] = []
    upstream, body = streaming(*chunks)

    def give(data: RelayBytes, count: RelaySoFar) -> None:
        found.extend((data, count))
        given.extend((data, count))

    told, note = "", found.append
    way: Give | None = give if direct else None
    try:
        async for part in model(upstream).relay(BODY, {}, model=MODEL, beta=False, stream=True, give=way):
            note(part)
    except PortError as failure:
        told = f"{type(failure).__name__}: {failure}"
    assert body.closed == 1
    return found, given, told


@pytest.mark.parametrize("chunks", STREAMS)
async def test_the_parts_are_the_same(chunks: list[bytes | Exception]) -> None:
    found, given, told = await relayed(chunks, direct=True)
    assert (found, told) == (await relayed(chunks, direct=False))[::2]
    counted = [part for part in found if isinstance(part, RelaySoFar)]
    assert [part for part in given if isinstance(part, RelaySoFar)] == counted


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}',
        b'{"delta":{"type":"text_delta","text":"a"},"type":"content_block_delta"}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"a","text":"b"}}',
        b'{"type":"content_block_delta","delta":{"text":"a"},"other":"text_delta"}',
        b'{"delta":{"type":"text_delta","text":"a"}}',
        b'{"type":"ping","type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"},"type":"ping"}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"a","signature":"abcd"}}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"a","thinking":"b"}}',
        b'{"type":"content_block_delta","delta":{"type":"thinking_delta","type":"text_delta","text":"a"}}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":5}}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta"}}',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"\\ud83d"}}',
        b'{"type":"content_block_delta","delta":"text_delta"',
    ],
)
@pytest.mark.parametrize("after", [(), (start(), block(), change())])
def test_the_short_way_to_a_text_reads_as_the_long_one(
    data: bytes, after: tuple[dict[str, Any], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reading() -> tuple[Any, ...]:
        stream = RelayedStream()
        stream.read(sse(*after) + b"data: " + data + b"\n\n")
        return stream.begun, stream.over, stream.gave, stream.so_far(), stream.end({})

    short = reading()
    monkeypatch.setattr(relay, "_plain_text", lambda _: None)
    assert reading() == short


async def test_what_the_taker_raises_ends_the_exchange() -> None:
    upstream, body = streaming(BEGUN, sse(delta("more")), hangs=True)

    def give(data: RelayBytes, count: RelaySoFar) -> None:
        if b"more" in data.data:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        async for _ in model(upstream).relay(BODY, {}, model=MODEL, beta=False, stream=True, give=give):
            pass
    assert body.closed == 1


async def test_cancelling_ends_the_exchange() -> None:
    upstream, body = streaming(BEGUN, hangs=True)
    parts = model(upstream).relay(BODY, {}, model=MODEL, beta=False, stream=True, give=lambda *_: None)

    async def read() -> None:
        async for _ in parts:
            pass

    reading = asyncio.create_task(read())
    await body.waits.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert body.closed == 1

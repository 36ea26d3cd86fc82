"""The direct way of a relayed stream gives the same parts, in the same order, as the one from part to part."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.upstream.http import SentUnknownError
from satmeter.actors.domain.llm.relays import Give, RelayBytes, RelayPart, RelaySoFar
from satmeter.actors.ports import PortError
from tests.helpers.chat_upstream import (
    BODY,
    COUNTED,
    DONE,
    MODEL,
    STOP,
    USAGE,
    WHOLE_STREAM,
    choice,
    chunk,
    provider,
    sse,
    streaming,
)

ERROR = {"error": {"message": "no", "type": "server_error", "code": 500}}
REFUSAL = {"error": {"message": "no", "type": "invalid_request_error", "code": 400}}
A, B = sse(chunk(choice("a"), usage={**USAGE, "completion_tokens": 1})), sse(chunk(choice("b"), usage=None))
STREAMS: list[list[bytes | Exception]] = [
    [sse(*WHOLE_STREAM)],
    [b": PROCESSING\n\n", *(sse(event) for event in WHOLE_STREAM)],
    [sse(*WHOLE_STREAM)[at : at + 7] for at in range(0, len(sse(*WHOLE_STREAM)), 7)],
    [A, B, sse(STOP), sse(COUNTED), sse(DONE)],
    [A, B, sse(STOP), sse(COUNTED).rstrip()],
    [A + b"data: nonsense\n\n", B, sse(STOP), sse(DONE), b"\n"],
    [A, sse(DONE), sse(COUNTED)],
    [A, sse(ERROR)],
    [A + sse(ERROR)],
    [sse(ERROR)],
    [sse(REFUSAL)],
    [sse(chunk(choice(""))) + sse(REFUSAL)],
    [sse(chunk(choice("")))[:-2]],
    [A, SentUnknownError("gone")],
    [A, B, SentUnknownError("gone")],
    [A],
    [A, B, sse(ERROR).rstrip()],
    [b"<html>"],
    [sse(DONE)],
    [],
]


async def relayed(chunks: list[bytes | Exception], *, direct: bool) -> tuple[list[RelayPart], int, str]:
    """All parts, the number of those that went the direct way, and the error."""
    found: list[RelayPart] = []
    given = 0
    answer = streaming(*chunks)

    def give(data: RelayBytes, count: RelaySoFar) -> None:
        nonlocal given
        given += 1
        found.extend((data, count))

    told, note = "", found.append
    way: Give | None = give if direct else None
    try:
        async for part in provider(answer).relay(BODY, {}, model=MODEL, beta=False, stream=True, give=way):
            note(part)
    except PortError as failure:
        told = f"{type(failure).__name__}: {failure}"
    assert answer.closed == 1
    return found, given, told


@pytest.mark.parametrize("chunks", STREAMS)
async def test_the_parts_are_the_same(chunks: list[bytes | Exception]) -> None:
    found, given, told = await relayed(chunks, direct=True)
    assert (found, 0, told) == await relayed(chunks, direct=False)
    # The bytes behind the last event are read apart, and have no count.
    assert 0 <= sum(isinstance(part, RelayBytes) for part in found) - given <= 1

"""The push channel, over a server on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from satmeter.actors.adapters.phoenixd.hints import websocket_hints
from satmeter.actors.ports import TransientError

HASHES = ["ab" * 32, "cd" * 32]


@asynccontextmanager
async def pushing(*messages: str, close: int = 1000) -> AsyncIterator[tuple[str, list[Any]]]:
    seen: list[Any] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append((connection.request.path, connection.request.headers["Authorization"]))
        for message in messages:
            await connection.send(message)
        await connection.close(close)

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}", seen


async def heard(url: str) -> list[str]:
    return [each async for each in websocket_hints(url, "Basic abc", open_timeout_s=5)]


async def test_payments_that_came_in_are_hinted_with_the_password_sent_along() -> None:
    events = [json.dumps({"type": "payment_received", "paymentHash": each}) for each in HASHES]
    async with pushing(events[0], "nonsense", '{"type": "other"}', events[1]) as (url, seen):
        assert await heard(url + "/") == HASHES
    assert seen == [("/websocket", "Basic abc")]


async def test_a_connection_that_breaks_is_told_without_its_address() -> None:
    async with pushing(close=1011) as (url, _):
        with pytest.raises(TransientError) as caught:
            await heard(url)
    assert "127.0.0.1" not in str(caught.value)
    with pytest.raises(TransientError):
        await heard(url)

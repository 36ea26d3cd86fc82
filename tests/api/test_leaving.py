"""Clients that hang up before they have a whole answer, over real connections. Actors are played (see `stubs`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from satmeter.actors.domain.demo import AskDemo, DemoAnswer
from satmeter.actors.domain.session.messages import Ask, Relay
from tests.helpers.http.fronts import Json, listening
from tests.helpers.http.stubs import FOREVER, SESSION, Stubbed, bearer, stubbed
from tests.helpers.patience import PATIENCE_S

MESSAGES: Json = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Hello, model"}],
}
ASKED = {"request": "say hello"}
PATHS = [
    ("POST", f"/sessions/{SESSION}/request", ASKED),
    ("POST", "/ask", ASKED),
    ("POST", "/v1/messages", MESSAGES),
    ("POST", "/v1/chat/completions", MESSAGES),
    ("POST", "/v1/responses", {"model": "claude-sonnet-5-5", "input": "Hello, model"}),
    ("GET", "/demo?request=hello", None),
]


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Stubbed]:
    async with stubbed() as front:
        for command in (Ask, Relay, AskDemo):
            front.plays(command, FOREVER)
        yield front


def sent_as(method: str, path: str, body: Json | None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


@pytest.mark.parametrize(("method", "path", "body"), PATHS)
async def test_a_client_that_hangs_up_ends_its_call(api: Stubbed, method: str, path: str, body: Json | None) -> None:
    async with listening(api.app) as server, asyncio.timeout(PATIENCE_S):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent_as(method, path, body))
        while not api.router.asked:
            await asyncio.sleep(0)
        assert not api.router.closed.is_set()
        writer.close()
        await api.router.closed.wait()
    assert len(api.router.asked) == 1


async def test_a_client_that_stays_is_waited_with(api: Stubbed) -> None:
    held = asyncio.Event()

    async def call(actor_id: str, command: object) -> DemoAnswer:
        await held.wait()
        return DemoAnswer("at last")

    api.router.call = call  # type: ignore[method-assign]
    asking = asyncio.create_task(api.http.get("/demo?request=hello"))
    # Longer than the front waits before it looks whether its client is there.
    asyncio.get_running_loop().call_later(0.4, held.set)
    assert (await asking).json() == {"result": "at last"}

"""A session's requests over HTTP, streamed. Actors are played (see `stubs`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio

from satmeter.actors.domain.errors import unavailable
from satmeter.actors.domain.llm.answers import Ending
from satmeter.actors.domain.session.messages import Ask
from tests.helpers.http.fronts import Json, listening
from tests.helpers.http.stubs import DONE, FOREVER, SESSION, Stubbed, answer, bearer, pieces, stubbed
from tests.helpers.patience import PATIENCE_S

STREAMED = {"request": "say hello", "stream": True}


@pytest_asyncio.fixture
async def api() -> AsyncIterator[Stubbed]:
    async with stubbed() as front:
        yield front


def events_in(text: str) -> list[tuple[str, Json]]:
    found = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_a_stream_gives_the_pieces_and_then_the_same_as_the_whole_answer(api: Stubbed) -> None:
    api.plays(Ask, *pieces("the ", "ans\nwer é"), answer())
    got = await api.post("/request", STREAMED)
    assert got.status_code == 200 and got.headers["content-type"].startswith("text/event-stream")
    assert events_in(got.text) == [("delta", {"text": "the "}), ("delta", {"text": "ans\nwer é"}), ("done", DONE)]
    (command,) = api.router.commands(Ask)
    assert command.stream is True
    assert api.router.closed.is_set()


async def test_a_rejection_and_a_repeated_answer_are_streams_of_one_event(api: Stubbed) -> None:
    api.plays(Ask, answer(Ending.REJECTED, text="", reason="No.", stop_reason=None))
    ((name, data),) = events_in((await api.post("/request", STREAMED)).text)
    assert (name, data["state"], data["reason"]) == ("done", "rejected", "No.")


async def test_an_answer_that_breaks_off_ends_the_stream_with_what_it_cost(api: Stubbed) -> None:
    api.plays(Ask, *pieces("the "), answer(Ending.BROKEN, text="the ", stop_reason="model_failed"))
    first, (name, data) = events_in((await api.post("/request", STREAMED)).text)
    assert (first, name) == (("delta", {"text": "the "}), "error")
    assert data.pop("error").endswith("released.")
    assert (data.pop("retryAction"), data.pop("paymentState")) == ("stop", "settled")
    assert data == {"code": "model_failed", "requestId": "req_first", "debitedMsat": 4_220, "balanceMsat": 995_780}


async def test_one_that_broke_off_before_the_first_event_is_a_plain_502(api: Stubbed) -> None:
    api.plays(Ask, answer(Ending.BROKEN, text="", stop_reason="model_failed"))
    got = await api.post("/request", STREAMED)
    assert (got.status_code, got.json()["debitedMsat"]) == (502, 4_220)
    assert api.router.closed.is_set()


async def test_a_host_that_is_lost_on_the_way_ends_the_stream_with_an_error(api: Stubbed) -> None:
    api.plays(Ask, *pieces("the "), unavailable("The actors' host"))
    got = await api.post("/request", STREAMED)
    _, (name, data) = events_in(got.text)
    assert (name, data["code"], data["requestId"]) == ("error", "unavailable", got.headers["x-request-id"])


# Streams over real connections


async def next_event(lines: AsyncIterator[str]) -> tuple[str, Json]:
    block: list[str] = []
    async for line in lines:
        if not line:
            return events_in("\n".join(block))[0]
        block.append(line)
    raise AssertionError("the stream has ended")


def asking(http: httpx.AsyncClient) -> Any:
    return http.stream("POST", f"/sessions/{SESSION}/request", json=STREAMED, headers=bearer())


async def test_each_piece_arrives_while_the_model_still_writes(api: Stubbed) -> None:
    api.router.gate = asyncio.Semaphore(0)
    api.plays(Ask, *pieces("one", "two"), answer())
    async with (
        listening(api.app) as server,
        httpx.AsyncClient(base_url=server.url, timeout=5) as http,
        asking(http) as got,
    ):
        lines = got.aiter_lines()
        assert await next_event(lines) == ("delta", {"text": "one"})
        api.router.gate.release()
        assert await next_event(lines) == ("delta", {"text": "two"})
        api.router.gate.release()
        assert await next_event(lines) == ("done", DONE)


async def test_a_client_that_goes_away_stops_the_model(api: Stubbed) -> None:
    api.plays(Ask, *pieces("one"), FOREVER)
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url, timeout=5) as http:
        async with asking(http) as got:
            await next_event(got.aiter_lines())
            assert not api.router.closed.is_set()
        await asyncio.wait_for(api.router.closed.wait(), PATIENCE_S)


async def test_a_client_that_goes_away_before_the_first_piece_stops_the_model_too(api: Stubbed) -> None:
    api.plays(Ask, FOREVER)
    async with listening(api.app) as server:
        body = json.dumps(STREAMED).encode()
        head = f"POST /sessions/{SESSION}/request HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(PATIENCE_S):
            while not api.router.asked:
                await asyncio.sleep(0)
            assert not api.router.closed.is_set()
            writer.close()
            await api.router.closed.wait()


async def test_a_server_that_ends_lets_requests_end_that_hold_money(api: Stubbed) -> None:
    api.router.gate = asyncio.Semaphore(0)
    api.plays(Ask, *pieces("one"), answer())
    async with (
        listening(api.app) as server,
        httpx.AsyncClient(base_url=server.url, timeout=5) as http,
        asking(http) as got,
    ):
        lines = got.aiter_lines()
        await next_event(lines)
        api.state.ending.set()
        server.server.should_exit = True
        api.router.gate.release()
        assert await next_event(lines) == ("done", DONE)

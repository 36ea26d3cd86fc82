"""Answers whose hold takes long, as each step before it may: their heads, their pings, and refusals that come late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.errors import Code, Refusal, RefusedError
from satmeter.actors.domain.session.messages import Ask, Relay
from satmeter.actors.messages import WireCommand
from satmeter.actors.ports import TransientError
from satmeter.actors.router.router import Router
from satmeter.http.sessions.l402 import L402
from tests.api.test_waiting import PATHS, PING_S, PINGS, asking, pings
from tests.helpers.conversations import Played
from tests.helpers.fakes import Gate
from tests.helpers.http.messages import MODEL, Shop, shop_over
from tests.helpers.patience import PATIENCE_S

Json = dict[str, Any]


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis, ping_s=PING_S) as found:
        yield found


def _slow_call(gate: Gate, call: Callable[..., Any]) -> Callable[..., Any]:
    async def slow(*arguments: Any, **named: Any) -> Any:
        await gate.pass_through()
        return await call(*arguments, **named)

    return slow


def _slow_hold(gate: Gate) -> Callable[..., Any]:
    opened = Router.open

    async def slow(router: Router, actor_id: str, command: WireCommand) -> AsyncGenerator[Any, None]:
        if isinstance(command, Ask | Relay):
            await gate.pass_through()
        async with aclosing(opened(router, actor_id, command)) as replies:
            async for reply in replies:
                yield reply

    return lambda *call: Played(slow(*call))


def make_slow(step: str, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold one of the steps before a hold up at the gate."""
    if step == "hold":
        monkeypatch.setattr(Router, "open", _slow_hold(gate))
    elif step == "payment":
        monkeypatch.setattr(L402, "settled", _slow_call(gate, L402.settled))
    else:
        from satmeter.http.anthropic import relay
        from satmeter.http.sessions import ask

        # What a process knows of the model stands for all that it asks the store or the oracle beforehand.
        for module in (relay, ask):
            monkeypatch.setattr(module, "refusal_of_calls", _slow_call(gate, module.refusal_of_calls))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("step", ["model", "payment", "hold"])
async def test_a_stream_whose_hold_takes_long_has_its_head_and_pings(
    shop: Shop, path: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    gate.close()
    make_slow(step, gate, monkeypatch)
    async with asking(shop, path, stream=True) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        await pings(lines, path, 3)
        gate.open()
        rest = "\n".join([line async for line in lines])
    assert "Hello" in rest and ("done" in rest if path == "/ask" else "Satmeter-Debited-Msat" in rest)
    await shop.until_free()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("step", ["model", "payment", "hold"])
@pytest.mark.parametrize("slow_model", [False, True])
async def test_a_whole_answer_whose_hold_takes_long_begins_with_line_breaks(
    shop: Shop, path: str, step: str, slow_model: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    gate.close()
    make_slow(step, gate, monkeypatch)
    if slow_model:
        shop.upstream.gate.close()
        asyncio.get_running_loop().call_later(8 * PING_S, shop.upstream.gate.open)
    got = b""
    async with asking(shop, path, stream=False) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        async for chunk in answer.aiter_bytes():
            got += chunk
            if len(got) >= 3:
                gate.open()
    assert got.startswith(b"\n\n\n") and "Hello" in json.dumps(json.loads(got))
    await shop.until_free()
    assert (await shop.show())["spentMsat"] > 0


REFUSALS: list[Exception] = [
    RefusedError(Refusal(Code.INSUFFICIENT_BALANCE, "Too little; nothing was charged.", {"requiredMsat": 7})),
    TransientError("the store"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", REFUSALS)
async def test_a_refusal_after_such_a_head_has_the_shape_of_its_api(
    shop: Shop, path: str, stream: bool, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    gate.close()

    async def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(L402, "settled", _slow_call(gate, refuse))
    got = b""
    async with asking(shop, path, stream=stream) as answer:
        assert answer.status_code == 200
        with suppress(httpx.RemoteProtocolError):
            async for chunk in answer.aiter_bytes():
                got += chunk
                gate.open()
    lines = got.decode().splitlines()
    (told,) = [json.loads(line.removeprefix("data: ")) for line in lines if "{" in line and line not in PINGS[path]]
    assert told["code"] == ("unavailable" if isinstance(error, TransientError) else "insufficient_balance")
    action = "retry" if isinstance(error, TransientError) else "ask_a_person"
    assert (told["retryAction"], told["paymentState"]) == (action, "unused")
    message = told["error"] if path == "/ask" else told["error"]["message"]
    assert "nothing was charged" in message
    assert ("event: error" in lines) is (stream and path != "/v1/chat/completions")
    assert (await shop.show())["spentMsat"] == 0 and shop.upstream.requests == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_its_hold_asks_for_nothing(
    shop: Shop, path: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = asyncio.Event()

    async def settled(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    monkeypatch.setattr(L402, "settled", settled)
    async with asking(shop, path, stream=stream):
        pass
    async with asyncio.timeout(PATIENCE_S):
        await left.wait()
    assert (await shop.show())["spentMsat"] == 0 and shop.upstream.requests == []


async def test_a_response_that_is_refused_late_has_the_events_of_one_that_failed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    gate.close()

    async def refuse(*_: Any) -> None:
        raise REFUSALS[0]

    monkeypatch.setattr(L402, "settled", _slow_call(gate, refuse))
    body = {"model": MODEL, "input": "Hello", "stream": True}
    headers = {"authorization": f"Bearer {shop.key}"}
    async with (
        httpx.AsyncClient(base_url=shop.url, headers=headers, timeout=20) as client,
        client.stream("POST", "/v1/responses", json=body) as answer,
    ):
        lines = []
        async for line in answer.aiter_lines():
            lines.append(line)
            gate.open()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-2]["code"] == "insufficient_balance"
    assert (events[-2]["retryAction"], events[-2]["paymentState"]) == ("ask_a_person", "unused")

"""Advice in the errors of real calls: what a program does next, and what became of its payment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.errors import cut_off, in_doubt
from satmeter.actors.domain.session.messages import Ask
from tests.api.test_l402 import CALL, challenged, paid_with, post
from tests.api.test_request_streams import events_in
from tests.helpers.http.messages import MODEL, Shop, shop_over
from tests.helpers.http.stubs import pieces, stubbed

LONG: list[Any] = [{"role": "user", "content": "x" * 300_000}]
SPENDING: dict[str, Any] = {
    "/ask": {"request": "say hello"},
    "/v1/messages": CALL,
    "/v1/chat/completions": CALL,
    "/v1/responses": {"model": MODEL, "input": "Hello", "max_output_tokens": 50},
}
DEAR: dict[str, Any] = {
    "/ask": {"request": "x" * 90_000},
    "/v1/messages": {**CALL, "messages": LONG},
    "/v1/chat/completions": {**CALL, "messages": LONG},
    "/v1/responses": {**SPENDING["/v1/responses"], "input": "x" * 300_000},
}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis, sats=100) as found:
        yield found


def advice(answer: Any) -> tuple[int, str, str]:
    told = answer.json()
    return answer.status_code, told["retryAction"], told["paymentState"]


@pytest.mark.parametrize("path", SPENDING)
async def test_a_program_knows_what_to_do_on_every_path_that_costs(shop: Shop, path: str) -> None:
    body, held = SPENDING[path], {"authorization": f"Bearer {shop.key}"}
    assert advice(await post(shop, path, body)) == (402, "pay", "none")
    assert advice(await post(shop, path, DEAR[path], **held)) == (402, "pay", "unused")
    assert advice(await post(shop, path, {}, **held)) == (400, "stop", "unused")
    assert advice(await post(shop, path, {})) == (400, "stop", "none")
    assert advice(await post(shop, path, body, authorization="Bearer nonsense")) == (401, "stop", "none")
    narrowed = {"authorization": f"Bearer {shop.narrowed('actions = read')}"}
    assert advice(await post(shop, path, body, **narrowed)) == (403, "ask_a_person", "unused")


async def test_a_payment_that_is_not_seen_yet_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.http.sessions.l402._SETTLES_WITHIN_S", 0.05)
    token, _ = challenged(await post(shop, "/v1/messages", CALL))
    answer = await post(shop, "/v1/messages", CALL, authorization=paid_with(shop, token))
    assert advice(answer) == (402, "wait", "in_flight") and answer.headers["retry-after"] == "2"
    answer = await post(shop, "/v1/messages", CALL, authorization=f"Bearer {token}")
    assert advice(answer) == (402, "pay", "none")


async def test_paths_without_money_have_the_fields_too(shop: Shop) -> None:
    http = shop.api.http
    assert advice(await http.get("/nothing")) == (404, "stop", "none")
    assert advice(await http.delete("/ask")) == (405, "stop", "none")
    assert advice(await http.post("/jobs", json={})) == (400, "stop", "none")
    assert advice(await http.post("/jobs/job_x/refund", json={"paymentRequest": "x"})) == (404, "stop", "none")


@pytest.mark.parametrize(("key", "action"), [({}, "ask_a_person"), ({"Idempotency-Key": "mine"}, "retry_same_key")])
@pytest.mark.parametrize("refusal", [in_doubt(), cut_off()])
async def test_what_may_have_been_charged_is_repeated_under_its_key_alone(
    key: dict[str, str], action: str, refusal: Any
) -> None:
    async with stubbed() as api:
        api.plays(Ask, refusal)
        answer = await api.post("/request", {"request": "say hello"}, **key)
        assert advice(answer) == (503, action, "in_flight")
        api.plays(Ask, *pieces("the "), refusal)
        streamed = await api.post("/request", {"request": "say hello", "stream": True}, **key)
        name, told = events_in(streamed.text)[-1]
        assert (name, told["retryAction"], told["paymentState"]) == ("error", action, "in_flight")

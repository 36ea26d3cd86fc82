"""An outage from its beginning to its end: a provider whose connection breaks, and all that learns of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import httpx2
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.adapters.redis.model_outage import RedisModelBoard
from satmeter.actors.model_health.health_check import ModelWatch
from satmeter.actors.partitioning import partition_of
from tests.api.test_events import events_of
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Json, listening
from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over
from tests.helpers.model_boards import FakeProbe
from tests.helpers.patience import PATIENCE_S

MESSAGES: Any = {"model": MODEL, "max_tokens": 5, "messages": HELLO}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis, gated=True, unpaid_per_ip=5) as found:
        yield found


def goes_away(shop: Shop) -> None:
    """Nobody listens there any more."""

    def refused(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    shop.upstream.reply = refused


async def comes_back(shop: Shop, redis: Redis) -> None:
    """Let the model answer again, and a probe see that."""
    shop.upstream.reply = None
    watch, board = ModelWatch(FakeProbe(), RedisModelBoard(redis), shop.api.world.now_ms), RedisModelBoard(redis)

    async def back() -> bool:
        shop.api.world.offset_ms += 1_000
        await watch.look()
        return (await board.read()).outage is None

    await until(back)


async def sells(shop: Shop) -> bool:
    return (await shop.api.http.post("/jobs", json={"request": "x"})).status_code == 201


async def says_away(shop: Shop) -> bool:
    """Return True once the shop's front has read of the outage; orders would run into limits of their own."""
    ready = await shop.api.http.get("/readyz")
    return ready.status_code == 503 and ready.json()["unreachable"] == ["model"]


async def refuses_orders(shop: Shop) -> bool:
    answer = await shop.api.http.post("/jobs", json={"request": "x"})
    return (answer.status_code, answer.json().get("code")) == (503, "unavailable")


async def test_three_calls_that_fail_close_the_shop_and_it_opens_again_by_itself(shop: Shop, redis: Redis) -> None:
    assert await sells(shop)
    goes_away(shop)
    for _ in range(3):
        assert (await shop.post(MESSAGES)).status_code == 503
    await until(lambda: says_away(shop))
    assert await refuses_orders(shop)
    asked = len(shop.upstream.requests)
    assert asked == 3
    for path, body in (("/v1/messages", MESSAGES), ("/ask", {"request": "x"})):
        answer = await shop.post(body, path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert len(shop.upstream.requests) == asked and (await shop.show())["heldMsat"] == 0
    await comes_back(shop, redis)
    await until(lambda: sells(shop))
    assert (await shop.post(MESSAGES)).status_code == 200


async def test_a_key_that_is_not_accepted_is_named_as_the_operator_s_to_mend(shop: Shop) -> None:
    shop.upstream.answers(401, {"error": {"message": "invalid x-api-key"}})
    for _ in range(3):
        answer = await shop.post(MESSAGES)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "key" not in answer.json()["error"]["message"]
    await until(lambda: says_away(shop))
    assert await refuses_orders(shop)
    assert "does not accept this server's key" in (await shop.api.http.get("/readyz")).json()["error"]


async def test_a_provider_s_wait_is_kept_by_the_server(shop: Shop) -> None:
    shop.upstream.answers(429, {}, **{"retry-after": "37"})
    assert (await shop.post(MESSAGES)).headers["retry-after"] == "37"
    shop.upstream.reply = None
    again = await shop.post(MESSAGES)
    assert again.status_code == 429 and 30 < int(again.headers["retry-after"]) <= 37
    assert len(shop.upstream.requests) == 1 and await sells(shop)
    shop.api.world.offset_ms += 38_000
    assert (await shop.post(MESSAGES)).status_code == 200


async def waits(shop: Shop, job_id: str) -> bool:
    """Return whether the job's client sees that it waits."""
    return (await shop.api.show(job_id)).get("waitingFor") == "model"


async def put_off(redis: Redis, job_id: str, times: int) -> bool:
    """Return whether the job has been tried so often in vain."""
    events = await redis.lrange(f"satmeter:{{p{partition_of(job_id):04d}}}:j:{job_id}", 0, -1)
    return sum(b'"put_off":true' in event for event in events) >= times


async def test_jobs_that_were_paid_wait_and_go_on_and_their_clients_see_it_once(shop: Shop, redis: Redis) -> None:
    api = shop.api
    first, second = await api.create(), await api.create()
    await api.pay(second["evalInvoice"])
    quoted = await api.job_in(second["jobId"], "awaiting_work_payment")
    goes_away(shop)
    seen: list[Json] = []

    async def follow() -> None:
        async with (
            listening(api.app) as server,
            httpx.AsyncClient(base_url=server.url, timeout=20) as http,
            http.stream("GET", f"/jobs/{second['jobId']}/events") as answer,
        ):
            async for event in events_of(answer):
                seen.append(event.data)  # noqa: PERF401 - what has come is looked at on the way

    async def begun() -> bool:
        return bool(seen)

    following = asyncio.create_task(follow())
    await until(begun)
    await api.pay(first["evalInvoice"])
    await api.pay(quoted["workInvoice"])
    for job_id, state in ((first["jobId"], "evaluating"), (second["jobId"], "executing")):
        await until(partial(waits, shop, job_id))
        assert (await api.show(job_id))["state"] == state
    await until(lambda: says_away(shop))
    assert await refuses_orders(shop)
    # More of them than a job has attempts.
    for times in range(2, 8):
        api.world.offset_ms += 60_000
        await until(partial(put_off, redis, first["jobId"], times))
    assert (await api.show(first["jobId"]))["state"] == "evaluating"
    await comes_back(shop, redis)
    api.world.offset_ms += 15_000
    await api.job_in(first["jobId"], "awaiting_work_payment")
    done = await api.job_in(second["jobId"], "complete")
    assert "waitingFor" not in done
    async with asyncio.timeout(PATIENCE_S):
        await following
    assert [(shown["state"], shown.get("waitingFor")) for shown in seen] == [
        ("awaiting_work_payment", None),
        ("executing", None),
        ("executing", "model"),
        ("complete", None),
    ]

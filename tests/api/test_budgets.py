"""Budgets that renew, over HTTP: used up, told of, refused with the time of their renewal, and spent again then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, cast

import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.credentials.macaroon import attenuate
from tests.api.test_openapi import document_of, validator_of
from tests.helpers.hosts import until
from tests.helpers.http.fronts import Api
from tests.helpers.http.messages import shop_over
from tests.helpers.webhooks import FakeWebhooks

URL = "https://example.org/hook"
HOUR_MS = 3_600_000
ASKED = {"request": "say hello", "maxTokens": 200}


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with shop_over(redis) as shop:
        yield shop.api


def to_the_next_hour(api: Api) -> None:
    """Ten minutes are gone of it, so that no test is near its end."""
    now_ms = api.world.now_ms()
    api.world.offset_ms += HOUR_MS - now_ms % HOUR_MS + HOUR_MS // 6


async def opened(api: Api) -> tuple[str, str]:
    """A paid session with a webhook, and its macaroon."""
    body = {"amountSats": 1_000, "webhook": {"url": URL, "lowBalanceSats": 1}}
    made = (await api.http.post("/sessions", json=body)).json()
    await api.pay(made["depositInvoice"])
    return made["sessionId"], made["macaroon"]


def at_ms(timestamp: str) -> int:
    return round(datetime.fromisoformat(timestamp).timestamp() * 1_000)


async def test_a_budget_is_used_up_told_of_and_renewed(api: Api) -> None:
    to_the_next_hour(api)
    session_id, whole = await opened(api)

    async def ask(macaroon: str) -> Any:
        headers = {"Authorization": f"Bearer {macaroon}"}
        return await api.http.post(f"/sessions/{session_id}/request", json=ASKED, headers=headers)

    first = await ask(whole)
    assert first.status_code == 200, first.text
    cost = first.json()["debitedMsat"]
    helper = attenuate(whole, [f"max_msat_per = {5 * cost}/hour", "name = helper"])
    answers = [await ask(helper) for _ in range(8)]
    spent = sum(answer.json().get("debitedMsat", 0) for answer in answers)
    assert answers[0].status_code == 200 and cost <= spent <= 5 * cost

    refused = answers[-1]
    assert (refused.status_code, refused.headers["X-Should-Retry"]) == (403, "false")
    told = refused.json()
    validator_of(await document_of(api), "Error").validate(told)
    assert (told["code"], told["caveat"]) == ("caveat_violated", f"max_msat_per = {5 * cost}/hour")
    assert (told["retryAction"], told["paymentState"]) == ("wait", "unused")
    renews_ms, now_ms = at_ms(told["renewsAt"]), api.world.now_ms()
    assert renews_ms % HOUR_MS == 0 and 0 < renews_ms - now_ms <= HOUR_MS
    assert int(refused.headers["Retry-After"]) == told["retryAfterSeconds"]
    assert 0 <= int(refused.headers["Retry-After"]) * 1_000 - (renews_ms - now_ms) <= 60_000
    # Others of the session are not held up.
    assert (await ask(whole)).status_code == 200

    sent = cast(FakeWebhooks, api.world.webhooks).sent
    # Four of five are 80 %; a fifth would have to hold more than is left.
    assert spent == 4 * cost
    await until(lambda: _told(sent))
    (notice,) = [json.loads(notify.body) for notify in sent]
    assert notice["type"] == "session.limit_nearly_spent"
    assert notice["data"] == {
        "sessionId": session_id,
        "caveat": f"max_msat_per = {5 * cost}/hour",
        "spender": "helper",
        "spentMsat": spent,
        "limitMsat": 5 * cost,
        "renewsAt": told["renewsAt"],
    }

    api.world.offset_ms += HOUR_MS
    assert (await ask(helper)).status_code == 200


async def _told(sent: list[Any]) -> bool:
    return bool(sent)


async def test_of_many_requests_at_once_no_more_are_taken_than_the_budget_covers(api: Api) -> None:
    to_the_next_hour(api)
    session_id, whole = await opened(api)
    budget = 60_000
    crew = attenuate(whole, [f"max_msat_per = {budget}/hour"])
    helpers = [attenuate(crew, [f"name = h{number}"]) for number in range(3)]

    async def ask(macaroon: str) -> Any:
        headers = {"Authorization": f"Bearer {macaroon}"}
        return await api.http.post(f"/sessions/{session_id}/request", json=ASKED, headers=headers)

    for _ in range(2):
        answers = await asyncio.gather(*(ask(helper) for helper in helpers * 10))
        assert {answer.status_code for answer in answers} == {200, 403}
        assert sum(answer.json().get("debitedMsat", 0) for answer in answers) <= budget
        api.world.offset_ms += HOUR_MS


async def test_a_budget_that_is_written_otherwise_ends_the_credential(api: Api) -> None:
    session_id, whole = await opened(api)
    headers = {"Authorization": f"Bearer {attenuate(whole, ['max_msat_per = 50000/month'])}"}
    answer = await api.http.get(f"/sessions/{session_id}", headers=headers)
    assert (answer.status_code, answer.json()["caveat"]) == (403, "max_msat_per = 50000/month")

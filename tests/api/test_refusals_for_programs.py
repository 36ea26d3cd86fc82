"""Refusals that programs read without a person: when to stop trying, what to leave out, and what to pay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.helpers.http.messages import HELLO, MODEL, Shop, shop_over

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
CALL: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": HELLO}
BODIES: dict[str, Any] = {CHAT: CALL, MESSAGES: CALL, COUNT: CALL, "/ask": {"request": "say hello"}}
LONG: list[Any] = [{"role": "user", "content": "x" * 300_000}]


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis, sats=100) as found:
        yield found


def headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def sentence(told: Any) -> str:
    """The one sentence that a program shows, in the format of either API or in ours."""
    error = told["error"]
    return str(error if isinstance(error, str) else error["message"])


# Whether to send it again


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("status", [401, 402, 403])
async def test_no_sdk_repeats_what_a_person_must_mend(shop: Shop, path: str, status: int) -> None:
    keys = {401: "nonsense", 403: shop.narrowed("expires_at = 1")}
    sent = headers(keys[status]) if status in keys else {}
    if path == COUNT and status == 402:
        opened = (await shop.api.http.post("/sessions", json={"amountSats": 100})).json()
        sent = headers(opened["macaroon"])
    answer = await shop.api.http.post(path, json=BODIES[path], headers=sent)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (status, "false")


async def test_what_succeeds_or_may_succeed_later_leaves_it_to_the_sdk(shop: Shop) -> None:
    for body, status in ((CALL, 200), ({**CALL, "model": "none"}, 404), ({}, 400)):
        answer = await shop.post(body)
        assert answer.status_code == status and "x-should-retry" not in answer.headers


# Unknown models


@pytest.mark.parametrize("path", [CHAT, MESSAGES, COUNT, "/ask"])
async def test_an_unknown_model_is_not_found(shop: Shop, path: str) -> None:
    body = {**BODIES[path], "model": "none"}
    answer = await shop.api.http.post(path, json=body, headers=headers(shop.key))
    told = answer.json()
    assert (answer.status_code, told["code"]) == (404, "model_not_found")
    if path == CHAT:
        shown = told["error"]
        assert (shown["code"], shown["type"], shown["param"]) == ("model_not_found", "invalid_request_error", "model")
    elif path != "/ask":
        assert told["error"]["type"] == "not_found_error"
    in_session = f"/sessions/{shop.session_id}/request"
    answer = await shop.api.http.post(in_session, json={"request": "hi", "model": "none"}, headers=headers(shop.key))
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


# Threads of the provider


async def test_a_thread_is_refused_so_that_the_sdk_sends_the_conversation_instead(shop: Shop) -> None:
    answer = await shop.post({**CALL, "thread": {"type": "create"}})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"] == {
        "error_code": "thread_unsupported_request",
        "unsupported": ["thread"],
    }
    async with shop.sdk() as sdk:
        runner = sdk.beta.messages.tool_runner(model=MODEL, max_tokens=50, messages=HELLO, tools=[])
        message = await runner.until_done()
    assert message.content[0].type == "text"


# What to pay


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/ask"])
async def test_the_sentence_of_a_challenge_has_the_invoice(shop: Shop, path: str) -> None:
    answer = await shop.api.http.post(path, json=BODIES[path])
    invoice = answer.json()["depositInvoice"]
    assert answer.status_code == 402 and sentence(answer.json()).endswith(invoice["paymentRequest"])
    assert f"{invoice['amountSats']} sats" in sentence(answer.json())


@pytest.mark.parametrize("path", [CHAT, MESSAGES, COUNT, "/ask"])
async def test_the_sentence_about_an_unpaid_deposit_has_its_invoice(shop: Shop, path: str) -> None:
    opened = (await shop.api.http.post("/sessions", json={"amountSats": 100})).json()
    answer = await shop.api.http.post(path, json=BODIES[path], headers=headers(opened["macaroon"]))
    assert (answer.status_code, answer.json()["depositInvoice"]) == (402, opened["depositInvoice"])
    assert sentence(answer.json()).endswith(opened["depositInvoice"]["paymentRequest"])


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/ask"])
async def test_the_sentence_about_a_low_balance_has_the_invoice_of_a_top_up(shop: Shop, path: str) -> None:
    body = {"request": "x" * 90_000} if path == "/ask" else {**CALL, "messages": LONG}
    answer = await shop.api.http.post(path, json=body, headers=headers(shop.key))
    told = answer.json()
    assert (answer.status_code, told["code"]) == (402, "insufficient_balance")
    assert sentence(told).endswith(told["topUpInvoice"]["paymentRequest"])


async def test_the_sdk_shows_the_invoice(shop: Shop) -> None:
    async with shop.sdk() as sdk:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await sdk.messages.create(model=MODEL, max_tokens=50, messages=LONG)
    assert caught.value.status_code == 402 and "lnbc" in str(caught.value)

"""Receipts of calls that an upstream of chat completions answered, over HTTP with real actors behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.scripts.receipts.quote import MismatchError
from satmeter.scripts.receipts.receipt import check_digest, check_price, exact_json
from satmeter.scripts.receipts.usage import check_answer, check_usage, why_another
from tests.api.test_receipts import verified
from tests.helpers.chat_upstream import SSE, USAGE, WHOLE_STREAM, Answer, Sent, answering, choice, chunk, message, sse
from tests.helpers.http.chat_shop import ChatShop, chat_shop_over

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
ID = "req-theirs"
VERDICT = json.dumps({"reason": "Fine.", "decision": "accept", "size": "small"})


@pytest_asyncio.fixture
async def shop(redis: Redis, tmp_path: Path) -> AsyncIterator[ChatShop]:
    async with chat_shop_over(redis, tmp_path) as found:
        yield found


def streaming(*events: Any) -> Answer:
    return Answer(headers={"content-type": SSE, "x-request-id": ID}, parts=(sse(*events),))


async def of_last_call(shop: ChatShop) -> dict[str, Any]:
    """The receipt of the newest debit, its price and tokens checked."""
    request_id = (await shop.ledger())[-1]["requestId"]
    path = f"/sessions/{shop.session_id}/requests/{request_id}/receipt"
    answer = await shop.api.http.get(path, headers={"Authorization": f"Bearer {shop.key}"})
    told = await verified(shop.api, answer)
    check_price(exact_json(answer.content)["receipt"])
    check_usage(told)
    return told


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_call_has_the_usage_and_the_answer_proves_it(shop: ChatShop, *, streamed: bool) -> None:
    whole = answering(200, message("Hi"), **{"x-request-id": ID})
    shop.chat.reply = lambda _: streaming(*WHOLE_STREAM) if streamed else whole
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    given = await shop.post({"model": "tiny", "messages": HELLO, **options}, CHAT)
    told = await of_last_call(shop)
    (charge,) = told["charges"]
    reported = {"upstream": "local", "requestId": ID, "usage": [json.dumps(USAGE)], "api": "openai"}
    assert charge["provider"] == reported
    assert check_usage(told) == [f"The tokens of the work are those of the provider's usage of its request {ID}."]
    check_answer(told, check_digest(told, "answerSha256", given.content, "answer"))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_translated_answer_is_said_not_to_be_checkable(shop: ChatShop, *, streamed: bool) -> None:
    shop.chat.reply = lambda _: streaming(*WHOLE_STREAM) if streamed else answering(200, message("Hi"))
    given = await shop.post({"model": "tiny", "max_tokens": 50, "messages": HELLO, "stream": streamed})
    told = await of_last_call(shop)
    assert "are those of the provider's usage" in check_usage(told)[0]
    with pytest.raises(MismatchError):
        check_digest(told, "answerSha256", given.content, "answer")
    assert "the server translated it" in (why_another(told, given.content) or "")


async def test_a_call_that_broke_off_has_the_usage_that_came(shop: ChatShop) -> None:
    begun = {**USAGE, "completion_tokens": 1, "note": "free text"}
    shop.chat.reply = lambda _: streaming(chunk(choice("x" * 90), usage=begun), chunk(choice("y")))
    with capture_logs() as logged:
        await shop.post({"model": "tiny", "messages": HELLO, "stream": True}, CHAT)
        told = await of_last_call(shop)
    (charge,) = told["charges"]
    assert told["state"] == "broken" and charge["provider"]["usage"] == [json.dumps(begun)]
    assert charge["provider"]["partial"] is True and charge["inputTokens"] == 18
    assert "free text" not in repr(logged)


async def test_a_call_whose_client_leaves_has_the_id(shop: ChatShop) -> None:
    hangs = Answer(headers={"content-type": SSE, "x-request-id": ID}, parts=(sse(*WHOLE_STREAM[:3]),), hangs=True)
    shop.chat.reply = lambda sent: hangs if sent.url.endswith("/completions") else answering(404, b"")
    body = {"model": "tiny", "messages": HELLO, "stream": True}
    headers = {"Authorization": f"Bearer {shop.key}"}
    async with httpx.AsyncClient() as client, client.stream("POST", shop.url + CHAT, json=body, headers=headers) as got:
        await anext(got.aiter_bytes())
    await shop.until_free()
    told = await of_last_call(shop)
    (charge,) = told["charges"]
    assert told["state"] == "left"
    assert charge["provider"] == {"upstream": "local", "requestId": ID, "usage": [], "api": "openai"}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_request_has_the_usage_of_both_of_its_calls(shop: ChatShop, *, streamed: bool) -> None:
    def reply(sent: Sent) -> Answer:
        text = VERDICT if "response_format" in sent.json else "Hi"
        return streaming(chunk(choice(text)), *WHOLE_STREAM[3:])

    shop.chat.reply = reply
    key = f"Bearer {shop.key}"
    got = await shop.post({"request": "Hello", "stream": streamed}, "/ask", authorization=key)
    assert got.status_code == 200, got.text
    told = await of_last_call(shop)
    assert [charge["provider"]["requestId"] for charge in told["charges"]] == [ID, ID]
    assert all("are those of the provider's usage" in said for said in check_usage(told))


async def test_an_error_in_the_middle_keeps_the_digest_of_the_upstreams_bytes(shop: ChatShop) -> None:
    """Our fields in it can be told from the upstream's bytes."""
    sent = sse(chunk(choice("Hel")), {"error": {"message": "gone", "code": 500}})
    shop.chat.reply = lambda _: Answer(headers={"content-type": SSE}, parts=(sent,))
    given = await shop.post({"model": "tiny", "messages": HELLO, "stream": True}, CHAT)
    told = await of_last_call(shop)
    assert told["state"] == "broken" and b"model_failed" in given.content
    assert check_digest(told, "answerSha256", given.content, "answer") == sent

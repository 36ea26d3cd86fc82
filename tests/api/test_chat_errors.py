"""Refused chat completions: the exceptions of OpenAI's SDK, and that nothing is charged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.api.test_chat import HELLO, MODEL, PATH, sdk
from tests.helpers.http.messages import Shop, shop_over

SOUND = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}


@pytest_asyncio.fixture
async def shop(redis: Redis) -> AsyncIterator[Shop]:
    async with shop_over(redis) as found:
        yield found


async def raised(shop: Shop, key: str | None = None, **fields: Any) -> Any:
    """The SDK's error; nothing is charged or held."""
    from openai import APIStatusError

    async with sdk(shop, key) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **fields})
    seen = await shop.show()
    assert (seen["spentMsat"], seen["heldMsat"]) == (0, 0)
    return caught.value


async def test_a_key_that_is_none_is_an_authentication_error(shop: Shop) -> None:
    from openai import AuthenticationError

    error = await raised(shop, "nonsense")
    assert isinstance(error, AuthenticationError)
    assert (error.code, error.type) == ("invalid_credential", "authentication_error")


async def test_a_key_that_may_not_is_a_permission_error(shop: Shop) -> None:
    from openai import PermissionDeniedError

    error = await raised(shop, shop.narrowed("actions = read"))
    assert isinstance(error, PermissionDeniedError)
    assert error.code == "caveat_violated"
    assert error.response.json()["caveat"] == "actions = read"


async def test_a_balance_that_is_too_low_is_a_402_with_an_invoice(redis: Redis) -> None:
    async with shop_over(redis, sats=100) as shop:
        error = await raised(shop, messages=[{"role": "user", "content": "x" * 300_000}])
    assert (error.status_code, error.code, error.type) == (402, "insufficient_balance", "insufficient_quota")
    body = error.response.json()
    assert body["topUpInvoice"]["paymentRequest"].startswith("ln")
    assert body["requiredMsat"] > body["balanceMsat"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "user", "content": [SOUND]}]}, "messages[0].content[0].type"),
    ],
)
async def test_what_can_t_be_done_is_a_bad_request_that_names_the_field(
    shop: Shop, fields: dict[str, Any], param: str
) -> None:
    from openai import BadRequestError

    error = await raised(shop, **fields)
    assert isinstance(error, BadRequestError)
    assert (error.param, error.code) == (param, "invalid_request")
    assert error.response.json()["fields"][0]["path"] == param
    assert shop.upstream.requests == []


async def test_what_the_provider_refuses_is_a_bad_request_in_its_words(shop: Shop) -> None:
    from openai import BadRequestError

    shop.upstream.answers(
        400, {"type": "error", "error": {"type": "invalid_request_error", "message": "tool_choice forces a tool"}}
    )
    error = await raised(shop, stream=True)
    assert isinstance(error, BadRequestError)
    assert "tool_choice forces a tool" in error.message
    assert error.response.json()["requestId"] == error.request_id


async def test_a_provider_that_fails_before_its_answer_is_a_server_error_without_a_charge(shop: Shop) -> None:
    from openai import InternalServerError

    shop.upstream.answers(500, {"type": "error", "error": {"type": "api_error", "message": "secret-of-the-provider"}})
    error = await raised(shop)
    assert isinstance(error, InternalServerError)
    assert (error.status_code, error.code) == (502, "model_failed")
    assert "secret" not in error.response.text


async def test_an_answer_that_is_none_is_a_server_error_without_a_charge(shop: Shop) -> None:
    shop.upstream.answers(200, {"surprise": True})
    answer = await shop.post({"model": MODEL, "messages": HELLO}, PATH)
    seen = await shop.show()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "model_failed")
    assert seen["spentMsat"] == 0 and "nothing was charged" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", PATH, 402), ("GET", PATH, 405), ("POST", "/v1/embeddings", 404)]
)
async def test_every_error_has_openai_s_shape(shop: Shop, method: str, path: str, status: int) -> None:
    answer = await shop.api.http.request(method, path, json={"model": MODEL, "messages": HELLO})
    told = answer.json()
    assert answer.status_code == status
    assert told["error"]["message"] and told["error"]["code"] == told["code"]
    assert told["requestId"] == answer.headers["x-request-id"]


async def test_a_body_that_is_too_large_or_no_json_has_openai_s_shape(shop: Shop) -> None:
    assert (await shop.post(b"[", PATH)).json()["error"]["type"] == "invalid_request_error"
    large = (await shop.post(b"x" * 33_600_000, PATH)).json()
    assert (large["code"], large["error"]["code"]) == ("body_too_large", "context_length_exceeded")
    other = await shop.post(b"{}", PATH, **{"content-type": "text/plain"})
    assert (other.status_code, other.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_without_a_credential_there_is_an_invoice_with_which_the_same_request_is_answered(shop: Shop) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 50}
    challenged = await shop.api.http.post(PATH, json=body)
    told = challenged.json()
    assert (challenged.status_code, told["error"]["code"]) == (402, "payment_required")
    header = challenged.headers["www-authenticate"]
    assert header.startswith('L402 macaroon="')
    await shop.api.pay(told["depositInvoice"])
    async with sdk(shop, header.split('"')[1]) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50)
    assert answer.choices[0].message.content

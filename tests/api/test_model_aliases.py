"""Models asked for by an alias or a dated name, in every dialect: sent by their own name, and charged as themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.helpers.http.messages import HELLO, Shop, shop_over

FILE = """
[[upstreams]]
name = "anthropic"
api = "anthropic"
base_url = "http://api.test"

[models.house]
upstream = "anthropic"
model = "claude-haiku-4-5"
aliases = ["cheap", "claude-opus-4-8"]
input = "1.00"
output = "5.00"
cache_read = "0.10"
cache_write_5m = "1.25"
cache_write_1h = "2.00"
per_request = "0.001"
max_output_tokens = 200

["models"."claude-haiku-4-5"]
upstream = "anthropic"
input = "1.00"
output = "5.00"
cache_read = "0.10"
cache_write_5m = "1.25"
cache_write_1h = "2.00"
"""
MESSAGES = {"max_tokens": 500, "messages": HELLO}
CHAT = {"max_tokens": 500, "messages": HELLO}
RESPONSES = {"max_output_tokens": 500, "input": "Hello, model"}
DIALECTS = [("/v1/messages", MESSAGES), ("/v1/chat/completions", CHAT), ("/v1/responses", RESPONSES)]


@pytest_asyncio.fixture
async def shop(redis: Redis, tmp_path: Path) -> AsyncIterator[Shop]:
    path = tmp_path / "models.toml"
    path.write_text(FILE)
    async with shop_over(redis, models_file=path, eval_model="house", work_model="house") as found:
        yield found


async def _receipts(shop: Shop) -> list[Any]:
    """The receipts of all requests, in their order."""
    found = []
    for request_id in dict.fromkeys(entry["requestId"] for entry in (await shop.ledger()) if "requestId" in entry):
        path = f"/sessions/{shop.session_id}/requests/{request_id}/receipt"
        told = await shop.api.http.get(path, headers={"authorization": f"Bearer {shop.key}"})
        found.append(told.json()["receipt"])
    return found


async def _charged_models(shop: Shop) -> list[tuple[str, str | None]]:
    """The models on the receipts of all requests, in their order."""
    charges = [charge for receipt in await _receipts(shop) for charge in receipt["charges"]]
    return [(charge["model"], charge.get("perRequestUsd")) for charge in charges]


@pytest.mark.parametrize(("path", "fields"), DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asked", ["house", "cheap", "claude-opus-4-8", "house-20260101"])
async def test_a_model_is_sent_by_its_own_name_and_charged_as_itself(
    shop: Shop, path: str, fields: dict[str, Any], stream: bool, asked: str
) -> None:
    answer = await shop.post({"model": asked, "stream": stream, **fields}, path)
    assert answer.status_code == 200, answer.text
    await shop.until_free()
    (sent,) = shop.upstream.bodies
    assert (sent["model"], sent["max_tokens"]) == ("claude-haiku-4-5", 200)
    assert answer.headers["satmeter-max-tokens"] == "200"
    # As the APIs themselves do, the answer names the model that answered.
    assert '"model":"claude-haiku-4-5"' in answer.text.replace(": ", ":")
    assert await _charged_models(shop) == [("house", "0.001")]


@pytest.mark.parametrize(("path", "fields"), DIALECTS)
async def test_a_receipt_is_of_the_bytes_that_the_client_sent(shop: Shop, path: str, fields: dict[str, Any]) -> None:
    """Though another name and another limit went on, which the client never sees."""
    sent = json.dumps({"model": "cheap", **fields}, indent=1).encode()
    assert (await shop.post(sent, path)).status_code == 200
    await shop.until_free()
    (receipt,) = await _receipts(shop)
    assert receipt["requestSha256"] == hashlib.sha256(sent).hexdigest()


@pytest.mark.parametrize(("path", "fields"), DIALECTS)
async def test_a_dated_name_goes_on_as_it_is(shop: Shop, path: str, fields: dict[str, Any]) -> None:
    await shop.post({"model": "claude-haiku-4-5-20251001", **fields}, path)
    await shop.until_free()
    assert [sent["model"] for sent in shop.upstream.bodies] == ["claude-haiku-4-5-20251001"]
    assert await _charged_models(shop) == [("claude-haiku-4-5", None)]


@pytest.mark.parametrize(("path", "fields"), DIALECTS)
async def test_another_name_is_not_found_before_anything_is_held(shop: Shop, path: str, fields: Any) -> None:
    answer = await shop.post({"model": "claude-opus-5-5", **fields}, path)
    assert answer.status_code == 404 and "model_not_found" in answer.text
    assert shop.upstream.requests == [] and (await shop.show())["spentMsat"] == 0


async def test_ask_takes_an_alias_and_names_the_model_itself(shop: Shop) -> None:
    headers = {"authorization": f"Bearer {shop.key}"}
    answer = await shop.api.http.post("/ask", json={"request": "Hello", "model": "cheap"}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "house"
    assert await _charged_models(shop) == [("house", "0.001"), ("house", "0.001")]


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/responses/input_tokens"])
async def test_a_count_is_asked_for_by_the_models_own_name(shop: Shop, path: str) -> None:
    body = {"model": "cheap", **({"messages": HELLO} if "messages" in path else {"input": "Hello"})}
    answer = await shop.post(body, path)
    assert answer.status_code == 200 and json.loads(answer.text)["input_tokens"] > 0
    assert [sent["model"] for sent in shop.upstream.bodies] == ["claude-haiku-4-5"]

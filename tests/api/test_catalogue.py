"""A models file over HTTP: what is listed of it, and its aliases in requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.session.messages import Ask
from tests.helpers.http.fronts import Api, api_over
from tests.helpers.http.stubs import Stubbed, answer, stubbed

FILE = """
[[upstreams]]
name = "local"
api = "openai"
base_url = "http://127.0.0.1:8080/v1"

[models."org/tiny:7b"]
upstream = "local"
model = "tiny-llama"
aliases = ["small"]
input = "1.00"
output = "2.00"
cache_read = "0.10"
cache_write_5m = "1.00"
cache_write_1h = "1.00"
per_request = "0.001"
context_tokens = 8192
max_output_tokens = 2048
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "models.toml"
    path.write_text(FILE)
    return {"models_file": path, "eval_model": "small", "work_model": "small"}


@pytest_asyncio.fixture
async def api(redis: Redis, settings: dict[str, Any]) -> AsyncIterator[Api]:
    async with api_over(redis, **settings) as found:
        yield found


async def test_the_price_list_shows_names_limits_upstreams_and_the_price_of_a_call(api: Api) -> None:
    shown = (await api.http.get("/pricing")).json()
    assert (shown["evalModel"], shown["workModel"]) == ("org/tiny:7b", "org/tiny:7b")
    (model,) = shown["models"]
    assert model.pop("rates")["output"] == "2.00"
    assert model == {
        "model": "org/tiny:7b",
        "perRequestUsd": "0.001",
        "aliases": ["small"],
        "contextTokens": 8192,
        "maxOutputTokens": 2048,
        "upstreams": ["local"],
    }
    # No answer of a job is longer than the model's longest.
    assert shown["tiers"]["large"] == {"inputTokens": 2_000, "outputTokens": 2_048, "maxTokens": 2_048}
    assert shown["tiers"]["small"] == {"inputTokens": 300, "outputTokens": 500, "maxTokens": 1_000}


@pytest.mark.parametrize("asked", ["org/tiny:7b", "org%2Ftiny%3A7b", "small"])
async def test_a_model_is_shown_by_its_name_or_alias(api: Api, asked: str) -> None:
    model = (await api.http.get(f"/v1/models/{asked}")).json()
    assert (model["id"], model["owned_by"], model["aliases"]) == ("org/tiny:7b", "local", ["small"])
    assert (model["max_input_tokens"], model["max_tokens"]) == (8_192, 2_048)
    assert model["pricing"]["perRequestUsd"] == "0.001"
    # Infrastructure of 0.0005 dollars and a call's 0.001, with 40 percent, at 100,000 dollars for a bitcoin.
    assert model["pricing"]["requestMsat"] == 2_100
    assert [entry["id"] for entry in (await api.http.get("/v1/models")).json()["data"]] == ["org/tiny:7b"]


async def test_codex_is_told_the_context_of_each_model(api: Api) -> None:
    listed = (await api.http.get("/v1/models", params={"client_version": "0.171.0"})).json()["models"]
    assert [(entry["slug"], entry["context_window"]) for entry in listed] == [("org/tiny:7b", 8_192)]
    # It would send an effort always, which many models behind chat completions refuse.
    assert listed[0]["supported_reasoning_levels"] == [] and not listed[0]["supports_reasoning_summaries"]


async def test_another_model_is_not_found_at_any_path(api: Api) -> None:
    for path in ("/v1/models/claude-opus-4-8", "/v1/models/org/other"):
        told = await api.http.get(path)
        assert (told.status_code, told.json()["code"]) == (404, "model_not_found")


@pytest_asyncio.fixture
async def front(settings: dict[str, Any]) -> AsyncIterator[Stubbed]:
    async with stubbed(**settings) as found:
        found.plays(Ask, answer())
        yield found


@pytest.mark.parametrize("named", [{}, {"model": "small"}, {"model": "org/tiny:7b"}])
async def test_a_request_by_an_alias_is_one_to_the_model(front: Stubbed, named: dict[str, str]) -> None:
    told = await front.post("/request", {"request": "hello", **named})
    assert told.status_code == 200
    (command,) = front.router.commands(Ask)
    assert command.model == "org/tiny:7b"


@pytest.mark.parametrize(("asked", "sent"), [(None, 2_048), (100, 100), (2_048, 2_048), (30_000, 2_048)])
async def test_an_answer_is_limited_by_the_models_longest(front: Stubbed, asked: int | None, sent: int) -> None:
    await front.post("/request", {"request": "hello", **({} if asked is None else {"maxTokens": asked})})
    (command,) = front.router.commands(Ask)
    assert command.max_tokens == sent

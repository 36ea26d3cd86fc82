"""The list of models: read by the SDKs of OpenAI and of Anthropic, with prices that hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from satmeter.actors.domain.pricing import Usage, charge_msat
from satmeter.actors.operator_terms import model_prices, pricing_terms
from satmeter.config.settings import Settings
from satmeter.http.openai.models import display_name
from tests.helpers.http.fronts import Api, api_over, listening
from tests.helpers.jobs import BTC


@pytest_asyncio.fixture
async def url(api: Api) -> AsyncIterator[str]:
    async with listening(api.app) as server:
        yield server.url


async def test_openai_s_sdk_lists_them(url: str) -> None:
    from openai import AsyncOpenAI, NotFoundError

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        models = [model async for model in sdk.models.list()]
        assert [model.id for model in models] == sorted(model_prices(Settings()))
        assert {(model.object, model.owned_by, model.created) for model in models} == {("model", "anthropic", 0)}
        assert await sdk.models.retrieve(models[0].id) == models[0]
        with pytest.raises(NotFoundError) as caught:
            await sdk.models.retrieve("gpt-5")
    assert caught.value.code == "model_not_found"
    assert "GET /v1/models" in caught.value.message


async def test_anthropic_s_sdk_lists_them(url: str) -> None:
    from anthropic import AsyncAnthropic, NotFoundError

    async with AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as sdk:
        page = await sdk.models.list(limit=2)
        models = [model async for model in page]
        assert [model.id for model in models] == sorted(model_prices(Settings()))
        assert (page.has_more, page.first_id, page.last_id) == (False, models[0].id, models[-1].id)
        assert {(model.type, model.lifecycle, model.created_at.year) for model in models} == {("model", "active", 1970)}
        dated = await sdk.models.retrieve("claude-haiku-4-5-20251001")
        assert (dated.id, dated.display_name) == ("claude-haiku-4-5", "Claude Haiku 4.5")
        with pytest.raises(NotFoundError):
            await sdk.models.retrieve("claude-haiku-9")


async def test_codex_gets_its_catalogue_and_others_don_t(api: Api) -> None:
    assert "models" not in (await api.http.get("/v1/models")).json()
    listed = (await api.http.get("/v1/models", params={"client_version": "0.171.0"})).json()
    assert [entry["slug"] for entry in listed["models"]] == [entry["id"] for entry in listed["data"]]
    needed = {"slug", "display_name", "supported_reasoning_levels", "shell_type", "visibility", "supported_in_api"}
    needed |= {"priority", "support_verbosity", "truncation_policy", "experimental_supported_tools"}
    assert all(needed <= entry.keys() and entry["base_instructions"] for entry in listed["models"])
    levels = {entry["slug"]: entry["supported_reasoning_levels"] for entry in listed["models"]}
    assert levels["claude-haiku-4-5"] == [] and len(levels["claude-sonnet-5-5"]) == 3


async def test_the_prices_are_those_that_are_charged(redis: Redis) -> None:
    async with api_over(redis, margin_pct=50, infra_usd_per_month=100) as api:
        listed: Any = {model["id"]: model for model in (await api.http.get("/v1/models")).json()["data"]}
        terms = pricing_terms(api.state.settings)
    pricing = listed["claude-sonnet-5-5"]["pricing"]
    # 0.001 dollars and a half of it, at 100,000 dollars for a bitcoin.
    assert pricing["requestMsat"] == 1_500
    assert pricing["rates"]["output"] == "10.00"
    assert pricing["perMillionTokensMsat"]["output"] == 15_000_000
    assert pricing["marginPct"] == 50 and pricing["btcPriceUsd"] == "100000.00"
    million = Usage(0, 1_000_000)
    assert charge_msat(terms, "claude-sonnet-5-5", million, BTC).value == 1_500 + 15_000_000
    assert "longPromptRates" not in pricing
    haiku = listed["claude-haiku-5-5"]["pricing"]
    assert haiku["longPromptRates"]["thresholdTokens"] == 100_000
    long_prompt = haiku["longPromptPerMillionTokensMsat"]
    assert (long_prompt["thresholdTokens"], long_prompt["input"]) == (100_000, 750_000)
    assert charge_msat(terms, "claude-haiku-5-5", Usage(1_000_000, 0), BTC).value == 1_500 + 750_000


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-haiku-4-5", "Claude Haiku 4.5"),
        ("claude-sonnet-5", "Claude Sonnet 5"),
        ("my-model", "My Model"),
        ("gpt-5-mini-2", "Gpt 5 Mini 2"),
    ],
)
def test_names_are_made_for_people(model: str, name: str) -> None:
    assert display_name(model) == name


async def test_a_slash_at_the_end_is_passed_over(api: Api) -> None:
    listed = (await api.http.get("/v1/models")).json()
    assert (await api.http.get("/v1/models/")).json() == listed
    first = listed["data"][0]
    assert (await api.http.get(f"/v1/models/{first['id']}/")).json() == first

"""The catalogue of models: which model a name means, and what upstreams are called by."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from satmeter.actors.domain.llm.catalogue import Api, Catalogue, ModelEntry, Upstream, chat_limit_field, shared_names
from satmeter.actors.domain.pricing import ModelPrice, Rates

RATES = Rates(*(Decimal(1),) * 5)
LOCAL = Upstream("local", Api.OPENAI, "http://127.0.0.1:8080/v1", 5, 120)
AWAY = Upstream("away", Api.ANTHROPIC, "https://api.example", 5, 300)


def entry(name: str, upstream_model: str | None = None, *aliases: str) -> ModelEntry:
    return ModelEntry(name, ("away", "local"), upstream_model or name, ModelPrice(name, RATES), aliases)


SONNET = entry("sonnet-5", None, "sonnet")
TINY = entry("tiny", "tiny-llama", "small")
DATED = entry("tiny-20260101", None)
CATALOGUE = Catalogue((TINY, SONNET, DATED), (LOCAL, AWAY))


@pytest.mark.parametrize(
    ("asked", "found", "sent"),
    [
        ("sonnet-5", SONNET, "sonnet-5"),
        ("sonnet", SONNET, "sonnet-5"),
        ("sonnet-5-20260630", SONNET, "sonnet-5-20260630"),
        ("sonnet-5-latest", SONNET, "sonnet-5-latest"),
        ("sonnet-latest", SONNET, "sonnet-5"),
        ("tiny", TINY, "tiny-llama"),
        ("small", TINY, "tiny-llama"),
        ("tiny-20250101", TINY, "tiny-llama"),
        ("tiny-20260101", DATED, "tiny-20260101"),
    ],
)
def test_a_model_is_found_by_name_alias_and_date_and_sent_by_what_upstreams_know(
    asked: str, found: ModelEntry, sent: str
) -> None:
    assert CATALOGUE.find(asked) is found
    assert found.sent_as(asked) == sent


@pytest.mark.parametrize("asked", ["", "sonnet-6", "sonnet-5-2026063", "Tiny", "tiny-llama", "-latest"])
def test_another_name_is_not_found(asked: str) -> None:
    assert CATALOGUE.find(asked) is None


def test_models_are_listed_by_name_with_their_upstreams_in_order() -> None:
    assert [model.name for model in CATALOGUE.models()] == ["sonnet-5", "tiny", "tiny-20260101"]
    assert CATALOGUE.upstreams_of(TINY) == (AWAY, LOCAL)
    assert set(CATALOGUE.prices) == {"sonnet-5", "tiny", "tiny-20260101"}


def test_names_that_stand_twice_are_found() -> None:
    assert shared_names([SONNET, TINY]) == []
    assert shared_names([SONNET, entry("sonnet"), entry("b", None, "c"), entry("d", None, "c")]) == ["sonnet", "c"]


def test_a_catalogue_can_travel() -> None:
    data = msgspec.json.encode(CATALOGUE)
    assert msgspec.json.decode(data, type=Catalogue) == CATALOGUE


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("https://ours.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("HTTPS://API.OPENAI.COM", "max_completion_tokens"),
        ("https://api.openai.com.example/v1", "max_tokens"),
        ("https://notapi.openai.community/v1", "max_tokens"),
        ("https://api.groq.com/openai/v1", "max_tokens"),
        ("http://127.0.0.1:8080/v1", "max_tokens"),
    ],
)
def test_only_openai_s_own_servers_need_the_newer_name_of_the_limit(base_url: str, name: str) -> None:
    assert chat_limit_field(base_url) == name
    upstream = msgspec.structs.replace(LOCAL, base_url=base_url)
    model = msgspec.structs.replace(TINY, upstreams=("local", "away"))
    assert Catalogue((model,), (AWAY, upstream)).limit_field_of(model) == name

"""Settings and the rules over them: a wrong one is named by its variable, and production takes nothing half real."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.routing_fees import RoutingFees
from satmeter.actors.domain.pricing import Size, Tier
from satmeter.actors.operator_terms import pricing_terms, routing_fees
from satmeter.config.settings import Settings
from satmeter.scripts.preflight.settings_checks import parts, problems
from satmeter.scripts.settings_table import insert

ROOT = Path(__file__).parents[3]
ROOT_KEY = hashlib.sha256(b"a root key of this test").hexdigest()
PRODUCTION: dict[str, Any] = {
    "SATMETER_ENV": "production",
    "LNBITS_URL": "https://lnbits.example",
    "LNBITS_INVOICE_KEY": "invoice",
    "LNBITS_ADMIN_KEY": "key",
    "ANTHROPIC_API_KEY": "key",
    "MACAROON_ROOT_KEY": ROOT_KEY,
    "OPERATOR_TOKEN": hashlib.sha256(b"a token of this test").hexdigest(),
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def _variables(**settings: Any) -> list[str]:
    return [problem.variable for problem in problems(Settings(**settings))]


def test_nothing_needs_to_be_set_for_development() -> None:
    assert _variables() == []
    assert [part.real for part in parts(Settings())] == [True, True, False, False]


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATMETER_PORT", "9000")
    monkeypatch.setenv("SATMETER_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    monkeypatch.setenv("SATMETER_RATE_LIMITS", "off")
    monkeypatch.setenv("REDIS_URL", "")
    settings = Settings()
    assert (settings.port, settings.trusted_proxies) == (9000, ("10.0.0.0/8", "::1"))
    assert settings.rate_limits is False
    assert settings.redis_url is None


def test_a_flag_counts_more_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATMETER_PORT", "9000")
    assert Settings(port=9001).port == 9001


def test_one_size_tier_can_be_set_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATMETER_TIERS", '{"small": {"input_tokens": 1, "output_tokens": 2, "max_tokens": 3}}')
    tiers = pricing_terms(Settings()).tiers
    assert tiers[Size.SMALL] == Tier(1, 2, 3)
    assert tiers[Size.LARGE] == Tier(2_000, 4_000, 8_000)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://satmeter.example/", "https://satmeter.example"),
        ("https://satmeter.example:8443", "https://satmeter.example:8443"),
        ("http://localhost:8402", "http://localhost:8402"),
        ("http://127.0.0.1:8402", "http://127.0.0.1:8402"),
        ("http://[::1]:8402", "http://[::1]:8402"),
    ],
)
def test_the_public_address_is_by_https_or_this_machine_s(value: str, url: str) -> None:
    assert Settings(public_url=value).public_url == url


def test_pages_of_all_origins_of_some_or_of_none_may_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().cors_origins == ("*",)
    monkeypatch.setenv("SATMETER_CORS_ORIGINS", "https://app.example, http://localhost:3000")
    assert Settings().cors_origins == ("https://app.example", "http://localhost:3000")
    monkeypatch.setenv("SATMETER_CORS_ORIGINS", "off")
    assert Settings().cors_origins == ()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SATMETER_ENV", "staging"),
        ("SATMETER_PORT", "70000"),
        ("SATMETER_MARGIN_PCT", "-1"),
        ("BTC_PRICE_USD_FALLBACK", "NaN"),
        ("BTC_PRICE_USD_FALLBACK", "0"),
        ("BTC_PRICE_USD_FALLBACK", "1e-30"),
        ("BTC_PRICE_USD_FALLBACK", "1e30"),
        ("SATMETER_INFRA_USD_PER_MONTH", "1e30"),
        ("SATMETER_INFRA_USD_PER_MONTH", "Infinity"),
        ("MACAROON_ROOT_KEY", "abc"),
        ("SATMETER_CORS_ORIGINS", "https://app.example/"),
        ("SATMETER_CORS_ORIGINS", "app.example"),
        ("SATMETER_CORS_ORIGINS", "off,https://app.example"),
        ("MACAROON_ROOT_KEY", "zz" * 32),
        ("SATMETER_PUBLIC_URL", "satmeter.example"),
        ("SATMETER_PUBLIC_URL", "http://satmeter.example"),
        ("SATMETER_PUBLIC_URL", "http://127.0.0.1.example"),
        ("SATMETER_PUBLIC_URL", "https://satmeter.example/api"),
        ("SATMETER_PUBLIC_URL", "https://user@satmeter.example"),
        ("SATMETER_PUBLIC_URL", "https://satmeter.example:0"),
        ("SATMETER_TIERS", '{"small": {"input_tokens": 1}}'),
        ("SATMETER_TIERS", '{"tiny": {"input_tokens": 1, "output_tokens": 2, "max_tokens": 3}}'),
        ("SATMETER_TIERS", '{"small": {"input_tokens": 1, "output_tokens": 3, "max_tokens": 2}}'),
        ("SATMETER_TIERS", '{"small": {"input_tokens": -1, "output_tokens": 2, "max_tokens": 3}}'),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"][0] for error in caught.value.errors()] == [variable]


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"LNBITS_URL": "https://lnbits.example"}, "LNBITS_INVOICE_KEY"),
        ({"LNBITS_INVOICE_KEY": "key"}, "LNBITS_URL"),
        ({"LNBITS_ADMIN_KEY": "key"}, "LNBITS_URL"),
        ({"ANTHROPIC_BASE_URL": "https://proxy.example"}, "ANTHROPIC_API_KEY"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL"),
        ({"REDIS_URL": "http://localhost"}, "REDIS_URL"),
        ({"LNBITS_URL": "lnbits.example", "LNBITS_INVOICE_KEY": "key"}, "LNBITS_URL"),
        ({"BTC_PRICE_URL": "https://"}, "BTC_PRICE_URL"),
        ({"SATMETER_TRUSTED_PROXIES": "10.0.0.0/8,proxy.internal"}, "SATMETER_TRUSTED_PROXIES"),
        ({"EVAL_MODEL": "unpriced"}, "EVAL_MODEL"),
        ({"SATMETER_RATES": {"m": {"input": "1"}}}, "SATMETER_RATES"),
        ({"SATMETER_RATES_FILE": "/nonexistent.toml"}, "SATMETER_RATES_FILE"),
        ({"SATMETER_MODELS_FILE": "/nonexistent.toml"}, "SATMETER_MODELS_FILE"),
        ({"SATMETER_MODELS_FILE": "/a.toml", "SATMETER_RATES_FILE": "/b.toml"}, "SATMETER_RATES_FILE"),
    ],
)
def test_settings_that_contradict_each_other_are_found(settings: dict[str, Any], variable: str) -> None:
    assert _variables(**settings) == [variable]


def test_production_with_everything_real_is_accepted() -> None:
    assert _variables(**PRODUCTION) == []
    assert all(part.real for part in parts(Settings(**PRODUCTION)))


FILE = """
[[upstreams]]
name = "local"
api = "openai"
base_url = "%s"
%s
[models.tiny]
upstream = "local"
input = "1"
output = "2"
cache_read = "1"
cache_write_5m = "1"
cache_write_1h = "1"
aliases = ["small"]
"""
OWN_MODELS = {"EVAL_MODEL": "tiny", "WORK_MODEL": "small"}


@pytest.mark.parametrize(
    ("base_url", "key", "production", "found"),
    [
        ("https://models.example/v1", "", True, []),
        ("http://127.0.0.1:8080/v1", "key_env = 'LOCAL_KEY'", True, []),
        ("http://models.example/v1", "", False, []),
        # Texts of clients, or a key, in the clear.
        ("http://models.example/v1", "", True, ["SATMETER_MODELS_FILE"]),
        ("http://models.example/v1", "key_env = 'LOCAL_KEY'", False, ["SATMETER_MODELS_FILE"]),
        ("http://allowed.example/v1", "key_env = 'LOCAL_KEY'", True, []),
        ("https://models.example/v1", "key_env = 'NO_KEY'", False, ["SATMETER_MODELS_FILE"]),
    ],
)
def test_a_models_file_replaces_anthropics_key_and_its_addresses_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_url: str, key: str, production: bool, found: list[str]
) -> None:
    monkeypatch.setenv("LOCAL_KEY", "sk-local")
    path = tmp_path / "models.toml"
    path.write_text(FILE % (base_url, key))
    settings = {**PRODUCTION, "SATMETER_MODELS_FILE": path, **OWN_MODELS, "ANTHROPIC_API_KEY": None}
    settings |= {"SATMETER_PLAIN_HTTP_ALLOW": "allowed.example"}
    if not production:
        settings["SATMETER_ENV"] = "development"
    assert _variables(**settings) == found
    assert [part.real for part in parts(Settings(**settings)) if part.name == "Model"] == [True]
    assert all("sk-local" not in problem.message for problem in problems(Settings(**settings)))


def test_own_models_that_the_file_lacks_are_told_by_their_settings(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(FILE % ("https://models.example/v1", ""))
    told = problems(Settings.model_validate({"SATMETER_MODELS_FILE": path}))
    assert [problem.variable for problem in told] == ["EVAL_MODEL", "WORK_MODEL"]
    assert told[0].message == "There is no model claude-haiku-5-5 with a price: add it, or set one of tiny."
    url = {"SATMETER_MODELS_FILE": path, **OWN_MODELS, "ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "https://a.test"}
    assert _variables(**url) == ["ANTHROPIC_BASE_URL"]


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"LNBITS_URL": None, "LNBITS_INVOICE_KEY": None, "LNBITS_ADMIN_KEY": None}, "LNBITS_URL"),
        ({"LNBITS_ADMIN_KEY": None}, "LNBITS_ADMIN_KEY"),
        ({"ANTHROPIC_API_KEY": None}, "ANTHROPIC_API_KEY"),
        ({"MACAROON_ROOT_KEY": None}, "MACAROON_ROOT_KEY"),
        ({"OPERATOR_TOKEN": None}, "OPERATOR_TOKEN"),
        ({"SATMETER_LOG_LEVEL": "debug"}, "SATMETER_LOG_LEVEL"),
        ({"BTC_PRICE_URL": "http://price.example"}, "BTC_PRICE_URL"),
        ({"REDIS_URL": "redis://:password@store.example"}, "REDIS_URL"),
        ({"SATMETER_RATE_LIMITS": False}, "SATMETER_RATE_LIMITS"),
    ],
)
def test_production_refuses_what_is_not_real(change: dict[str, Any], variable: str) -> None:
    assert _variables(**PRODUCTION | change) == [variable]


def test_no_problem_and_no_part_shows_a_secret() -> None:
    settings = Settings(**PRODUCTION | {"LNBITS_INVOICE_KEY": "SECRET", "ANTHROPIC_API_KEY": "SECRET"})
    assert "SECRET" not in repr([settings, problems(settings), parts(settings)])
    assert ROOT_KEY not in repr(settings)


def test_the_readme_has_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text()
    assert insert(readme) == readme, "run `.venv/bin/python -m satmeter.scripts.settings_table`"
    assert all(f"`{field.validation_alias}`" in readme for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, RoutingFees(per_million=10_000, least_msat=Msat(2_000))),
        ({"SATMETER_ROUTING_BASE_SATS": 0}, RoutingFees(per_million=10_000)),
        ({"SATMETER_ROUTING_PER_MILLION": 500}, RoutingFees(per_million=500, least_msat=Msat(2_000))),
        (
            {"SATMETER_ROUTING_BASE_SATS": 1, "SATMETER_ROUTING_PER_MILLION": 0},
            RoutingFees(per_million=0, least_msat=Msat(1_000)),
        ),
    ],
)
def test_an_operator_may_have_other_figures_in_the_node_s_rule(settings: dict[str, Any], rule: RoutingFees) -> None:
    assert routing_fees(Settings(**settings)) == rule


@pytest.mark.parametrize(("variable", "value"), [("BASE_SATS", -1), ("BASE_SATS", 101), ("PER_MILLION", 100_001)])
def test_a_reserve_for_routing_has_bounds(variable: str, value: int) -> None:
    settings: dict[str, Any] = {f"SATMETER_ROUTING_{variable}": value}
    with pytest.raises(ValidationError):
        Settings(**settings)


def test_the_first_invoice_of_a_job_lives_for_minutes_and_never_longer_than_others() -> None:
    assert Settings().eval_expiry_s == 420
    assert Settings(invoice_expiry_s=60).eval_expiry_s == 60

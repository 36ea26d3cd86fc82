"""Refusals of production: each with its remedy, and without showing a secret."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.preflight.production_checks import production_problems

MODELS = """
[[upstreams]]
name = "own"
api = "anthropic"
base_url = "https://models.example"
key_env = "A_KEY"
[models.small]
upstream = "own"
input = "1"
output = "2"
cache_read = "1"
cache_write_5m = "1"
cache_write_1h = "1"
"""
GOOD: dict[str, Any] = {
    "SATMETER_ENV": "production",
    "LNBITS_URL": "https://lnbits.example",
    "LNBITS_ADMIN_KEY": "admin",
    "ANTHROPIC_API_KEY": "sk",
    "MACAROON_ROOT_KEY": hashlib.sha256(b"a root key of this test").hexdigest(),
    "OPERATOR_TOKEN": hashlib.sha256(b"a token of this test").hexdigest(),
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.chdir(tmp_path)


def refused(**change: Any) -> list[str]:
    found = list(production_problems(Settings(**GOOD | change)))
    assert all(problem.message.endswith(".") and ":" in problem.message for problem in found), "no remedy"
    return [problem.variable for problem in found]


def test_what_is_drawn_at_random_is_accepted() -> None:
    assert refused() == []
    for _ in range(200):
        assert refused(MACAROON_ROOT_KEY=secrets.token_hex(32), OPERATOR_TOKEN=secrets.token_urlsafe(18)) == []


@pytest.mark.parametrize(
    "key",
    [
        "00" * 32,
        "5a" * 32,
        "0123456789abcdef" * 4,
        hashlib.sha256(b"half").hexdigest()[:32] * 2,
        hashlib.sha256(b"a third").hexdigest()[:22] * 3,
        bytes(range(32)).hex(),
        bytes(range(64, 0, -2)).hex(),
        b"correct horse battery staple 123".hex(),
        hashlib.sha256(b"password").hexdigest(),
        hashlib.sha256(b"").hexdigest(),
        "00" * 24 + hashlib.sha256(b"x").hexdigest()[:16],
    ],
)
def test_a_key_that_can_be_guessed_is_refused(key: str) -> None:
    assert refused(MACAROON_ROOT_KEY=key[:64]) == ["MACAROON_ROOT_KEY"]


@pytest.mark.parametrize(
    "token",
    ["", "short", "x" * 64, "abab" * 16, "a-token-of-23-characters"[:23], "abcdefgh" * 3, "1234567890" * 3 + "12"],
)
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    assert refused(OPERATOR_TOKEN=token) == ["OPERATOR_TOKEN"]


def test_a_secret_that_stands_twice_is_refused_by_the_second_name() -> None:
    key = GOOD["MACAROON_ROOT_KEY"]
    assert refused(OPERATOR_TOKEN=key.upper()) == ["OPERATOR_TOKEN"]
    assert refused(LNBITS_ADMIN_KEY=GOOD["OPERATOR_TOKEN"]) == ["OPERATOR_TOKEN"]
    (problem,) = production_problems(Settings(**GOOD | {"ANTHROPIC_API_KEY": key}))
    assert key not in problem.message and "ANTHROPIC_API_KEY" in problem.message


@pytest.mark.parametrize("variable", ["MACAROON_ROOT_KEY", "MACAROON_ROOT_KEY_PREVIOUS", "OPERATOR_TOKEN"])
@pytest.mark.parametrize("other", ["RAY_AUTH_TOKEN", "RAY_REDIS_PASSWORD", "REDIS_URL", "cluster", "a model's key"])
def test_a_secret_of_ours_is_used_for_nothing_else_that_others_know(
    variable: str, other: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = hashlib.sha256(b"a secret of two").hexdigest()
    change: dict[str, Any] = {variable: secret}
    match other:
        case "REDIS_URL":
            change["REDIS_URL"] = f"redis://user:{secret}@127.0.0.1:6379/0"
        case "cluster":
            change["REDIS_URL"] = f"redis+cluster://user:{secret}@127.0.0.1:6379"
        case "a model's key":
            (tmp_path / "models.toml").write_text(MODELS)
            monkeypatch.setenv("A_KEY", secret)
            change["SATMETER_MODELS_FILE"] = tmp_path / "models.toml"
        case _:
            monkeypatch.setenv(other, secret)
    (problem,) = production_problems(Settings(**GOOD | change))
    assert problem.variable == variable and secret not in problem.message


def test_the_previous_key_is_not_the_operator_s_token() -> None:
    assert refused(MACAROON_ROOT_KEY_PREVIOUS=GOOD["OPERATOR_TOKEN"]) == ["OPERATOR_TOKEN"]


@pytest.mark.parametrize("variable", ["SATMETER_TRUSTED_PROXIES", "SATMETER_WEBHOOK_ALLOW"])
@pytest.mark.parametrize(
    ("entries", "everybody"),
    [
        ("0.0.0.0/0", True),
        ("::/0", True),
        ("0.0.0.0/1,128.0.0.0/1", True),
        ("::/1, 8000::/1", True),
        ("10.0.0.1/0", True),
        (",".join(f"{first}.0.0.0/8" for first in range(1, 224)), True),
        ("2000::/3", True),
        ("::ffff:0:0/96", True),
        ("::ffff:0.0.0.0/97,::ffff:128.0.0.0/97", True),
        ("64:ff9b::/96", True),
        ("2002::/16", True),
        ("", False),
        ("10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,127.0.0.0/8", False),
        ("fc00::/7,fe80::/10,::1", False),
        ("2606:4700::/32,173.245.48.0/20", False),
        ("10.0.0.0/8,10.0.0.0/9,10.0.0.0/10", False),
        ("::ffff:10.0.0.0/104", False),
    ],
)
def test_a_list_that_is_everybody_is_refused_in_however_many_parts(
    variable: str, entries: str, everybody: bool
) -> None:
    assert refused(**{variable: entries}) == ([variable] if everybody else [])


def test_names_of_hosts_are_one_each() -> None:
    assert refused(SATMETER_WEBHOOK_ALLOW="hooks.internal,10.0.0.5") == []


def test_the_previous_key_is_held_to_the_same() -> None:
    assert refused(MACAROON_ROOT_KEY_PREVIOUS=secrets.token_hex(32)) == []
    assert refused(MACAROON_ROOT_KEY_PREVIOUS="5a" * 32) == ["MACAROON_ROOT_KEY_PREVIOUS"]


@pytest.mark.parametrize(
    ("environment", "closed"),
    [
        ({}, False),
        ({"RAY_AUTH_MODE": "disabled"}, False),
        ({"RAY_AUTH_MODE": "token"}, True),
        ({"RAY_USE_TLS": "1"}, True),
    ],
)
def test_a_cluster_of_ray_that_anybody_can_use_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], closed: bool
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert refused(RAY_ADDRESS="10.0.0.5:6379") == ([] if closed else ["RAY_AUTH_MODE"])
    # One that the server starts for itself has a token.
    assert refused() == []


def test_logs_that_may_hold_prompts_are_refused() -> None:
    assert refused(SATMETER_LOG_LEVEL="debug") == ["SATMETER_LOG_LEVEL"]
    assert refused(SATMETER_LOG_LEVEL="warning") == []

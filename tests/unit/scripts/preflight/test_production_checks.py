"""Refusals of production: each with its remedy, and without showing a secret."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.preflight.production_checks import data_dir_problems, production_problems

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


@pytest.mark.parametrize("token", ["", "short", "x" * 64, "abab" * 16, "a-token-of-23-characters"[:23]])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    assert refused(OPERATOR_TOKEN=token) == ["OPERATOR_TOKEN"]


def test_a_secret_that_stands_twice_is_refused_by_the_second_name() -> None:
    key = GOOD["MACAROON_ROOT_KEY"]
    assert refused(OPERATOR_TOKEN=key.upper()) == ["OPERATOR_TOKEN"]
    assert refused(LNBITS_ADMIN_KEY=GOOD["OPERATOR_TOKEN"]) == ["OPERATOR_TOKEN"]
    (problem,) = production_problems(Settings(**GOOD | {"ANTHROPIC_API_KEY": key}))
    assert key not in problem.message and "ANTHROPIC_API_KEY" in problem.message


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


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
def test_a_data_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "data"
    place.mkdir()
    place.chmod(mode)
    assert refused(SATMETER_DATA_DIR=place) == ["SATMETER_DATA_DIR"]
    place.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(place)
    assert refused(SATMETER_DATA_DIR=link) == []
    place.chmod(mode)
    assert refused(SATMETER_DATA_DIR=link) == ["SATMETER_DATA_DIR"]


def test_a_directory_that_others_can_replace_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / "open"
    parent.mkdir()
    for place in (parent / "data", parent / "deeper" / "data"):
        parent.chmod(0o777)
        (problem,) = data_dir_problems(place)
        assert str(parent) in problem.message and "chmod go-w" in problem.message
        parent.chmod(0o1777)
        assert list(data_dir_problems(place)) == []


def test_a_container_s_volume_may_be_open_and_a_directory_of_its_own_in_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    monkeypatch.setattr("os.path.ismount", lambda place: Path(place) == volume)
    assert list(data_dir_problems(volume / "satmeter")) == []
    assert [problem.variable for problem in data_dir_problems(volume)] == ["SATMETER_DATA_DIR"]


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "data"
    place.mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: 4_711)
    if place.stat().st_uid == 0:
        # Root may write everywhere anyway.
        assert list(data_dir_problems(place)) == []
    else:
        assert [problem.variable for problem in data_dir_problems(place)] == ["SATMETER_DATA_DIR"]

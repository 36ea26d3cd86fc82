"""Secrets from files: what is taken, and what is told of a file that can't be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from satmeter.config.loading import load_settings
from satmeter.config.secret_files import read_secret_files, secret_of
from satmeter.config.secret_names import SECRETS
from satmeter.config.settings import Settings
from satmeter.config.unknown_variables import unknown_variables

ROOT_KEY = "5a" * 32


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def _file(path: Path, text: str = "secret\n", mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_every_secret_setting_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        name: ROOT_KEY if "ROOT_KEY" in name or "MACAROON" in name else f"redis://:{name}@store" for name in SECRETS
    }
    for name, value in values.items():
        monkeypatch.setenv(f"{name}_FILE", _file(tmp_path / name, f"{value}\r\n"))
    settings, found = load_settings({})
    assert found == [] and unknown_variables({f"{name}_FILE": "x" for name in SECRETS}) == []
    read = {str(field.validation_alias): getattr(settings, name) for name, field in Settings.model_fields.items()}
    shown = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in read.items()
        if name in SECRETS
    }
    assert shown == values
    assert not any(value in repr(settings) for value in values.values())


def test_the_list_of_secrets_has_all_that_are_typed_as_such() -> None:
    typed = {
        str(field.validation_alias) for field in Settings.model_fields.values() if "SecretStr" in str(field.annotation)
    }
    assert typed | {"REDIS_URL"} == set(SECRETS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't be read (No such file or directory): correct the path"),
        ("", "is empty: write the secret into it"),
        (" \n\n", "is empty: write the secret into it"),
        ("one\ntwo\n", "has more than one line: it must hold the secret and nothing else"),
        ("x" * 10_001, "has more than one line"),
        (b"\xff\xfe", "can't be read (it is not text)"),
    ],
)
def test_a_file_that_can_not_be_right_is_told_and_never_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes | None, words: str
) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setenv("OPERATOR_TOKEN_FILE", str(path))
    settings, (problem,) = load_settings({})
    assert settings.operator_token is None
    assert problem.variable == "OPERATOR_TOKEN_FILE" and words in problem.message and str(path) in problem.message
    assert "one" not in problem.message.split("has more than one line")[0]


@pytest.mark.parametrize("around", [b"%b\r\n", b"\xef\xbb\xbf%b", b" %b\n\n"])
def test_what_editors_put_around_a_secret_is_left_out(tmp_path: Path, around: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(around % b"a-secret")
    assert read_secret_files({"OPERATOR_TOKEN_FILE": str(path)}).values == {"OPERATOR_TOKEN": "a-secret"}


def test_a_directory_is_not_read(tmp_path: Path) -> None:
    found = read_secret_files({"REDIS_URL_FILE": str(tmp_path)})
    assert "is not a file" in found.problems[0].message


def test_a_secret_that_is_set_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNBITS_ADMIN_KEY", "one")
    monkeypatch.setenv("lnbits_admin_key_file", _file(tmp_path / "key", "two"))
    _, (problem,) = load_settings({})
    assert problem.variable == "LNBITS_ADMIN_KEY_FILE" and "LNBITS_ADMIN_KEY is set, too" in problem.message


def test_a_flag_counts_more_than_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL_FILE", _file(tmp_path / "url", "redis://file"))
    settings, found = load_settings({"REDIS_URL": "redis://flag"})
    assert (settings.redis_url, found) == ("redis://flag", [])


@pytest.mark.parametrize(("env", "told"), [("production", True), ("development", False)])
def test_production_takes_no_file_that_every_user_of_the_machine_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: str, told: bool
) -> None:
    monkeypatch.setenv("SATMETER_ENV", env)
    monkeypatch.setenv("OPERATOR_TOKEN_FILE", _file(tmp_path / "open", mode=0o604))
    # A service manager gives secrets to a group.
    monkeypatch.setenv("LNBITS_ADMIN_KEY_FILE", _file(tmp_path / "closed", mode=0o640))
    _, found = load_settings({})
    assert [problem.variable for problem in found] == (["OPERATOR_TOKEN_FILE"] if told else [])
    assert all("chmod 600" in problem.message for problem in found)


def test_a_wrong_secret_in_a_file_is_told_by_its_name_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACAROON_ROOT_KEY_FILE", _file(tmp_path / "key", "5a5a"))
    settings, (problem,) = load_settings({})
    assert settings.macaroon_root_key is None and problem.variable == "MACAROON_ROOT_KEY"
    assert "32 bytes in hex" in problem.message and "5a5a" not in problem.message


def test_programs_that_buy_read_theirs_in_the_same_way(tmp_path: Path) -> None:
    name = "SATMETER_WALLET_LNBITS_KEY"
    assert secret_of(name, {f"{name}_FILE": _file(tmp_path / "key")}) == "secret"
    assert secret_of(name, {name: " key "}) == "key"
    assert secret_of(name, {}) == ""
    with pytest.raises(ValueError, match=f"{name}_FILE: .* is empty"):
        secret_of(name, {f"{name}_FILE": _file(tmp_path / "none", "")})


@pytest.mark.parametrize("content", [bytes.fromhex("0201036c6e6402ff"), b"0201036c6e6402ff\n", b" 0201036C6E6402FF "])
def test_a_macaroon_may_be_in_its_own_form_or_in_hex(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin.macaroon"
    path.write_bytes(content)
    path.chmod(0o600)
    found = read_secret_files({"LND_MACAROON_FILE": str(path)})
    assert found.problems == [] and found.values["LND_MACAROON"].lower() == "0201036c6e6402ff"


def test_bytes_are_no_secret_of_any_other_kind(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\x02\xff")
    found = read_secret_files({"LNBITS_ADMIN_KEY_FILE": str(path)})
    assert "not text" in found.problems[0].message and found.values == {}

"""Environment of a server: its secrets are taken out of it before anything inherits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from satmeter.config import given_environment
from satmeter.config.loading import load_settings
from satmeter.config.secret_names import SECRETS
from satmeter.config.settings import Settings
from satmeter.scripts.server.environment import without_secrets


def test_secrets_are_taken_out_and_all_else_stays(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[[upstreams]]\nname = "a"\nkey_env = "LOCAL_KEY"\n[[upstreams]]\nname = "b"\n')
    secrets = {**dict.fromkeys(SECRETS, "x"), "lnbits_admin_Key": "x", "LOCAL_KEY": "x"}
    kept = {"PATH": "/bin", "SATMETER_MODELS_FILE": str(models), "OTHER_KEY": "y", "REDIS_URL_FILE": "/run/url"}
    assert without_secrets({**secrets, **kept}) == (kept, secrets)


@pytest.mark.parametrize("text", ["not toml [", "upstreams = 5\n", "upstreams = [1]\n", "upstreams = 'key_env'\n"])
def test_a_models_file_that_can_not_be_read_is_told_later(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    environment = {"SATMETER_MODELS_FILE": str(path), "LNBITS_ADMIN_KEY": "x"}
    assert without_secrets(environment)[1] == {"LNBITS_ADMIN_KEY": "x"}
    assert without_secrets({"SATMETER_MODELS_FILE": str(tmp_path / "none")})[1] == {}


def test_the_server_reads_its_settings_as_if_nothing_had_been_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.setattr(given_environment, "_taken_out", {"operator_token": "token", "REDIS_URL": "redis://one"})
    settings, found = load_settings({})
    assert settings.operator_token is not None and settings.operator_token.get_secret_value() == "token"
    assert (settings.redis_url, found) == ("redis://one", [])
    assert load_settings({"REDIS_URL": "redis://flag"})[0].redis_url == "redis://flag"
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "url"))
    assert "REDIS_URL is set, too" in load_settings({})[1][0].message

"""`satmeter ray-head`: what it refuses, what Ray's processes inherit of its environment, and what Ray is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from satmeter.actors.ray_start import RayStartError
from satmeter.scripts.server.ray_head import run


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record of how Ray was started, in place of Ray, in an environment of the test."""
    found: dict[str, Any] = {}

    def run_head(words: Sequence[str], user: str, password: str) -> None:
        found.update(words=words, login=(user, password), environment=dict(os.environ))

    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setitem(sys.modules, "satmeter.actors.cluster", SimpleNamespace(run_head=run_head))
    # Nobody listens there: Ray itself waits for its store.
    monkeypatch.setenv("RAY_REDIS_ADDRESS", "127.0.0.1:1")
    return found


def test_ray_gets_its_login_and_its_processes_no_secret(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_REDIS_PASSWORD", "MACAROON_ROOT_KEY", "REDIS_URL"):
        monkeypatch.setenv(name, "redis://hidden" if name == "REDIS_URL" else "ab" * 32)
    monkeypatch.setenv("RAY_REDIS_USERNAME", "ray")
    run(["--block"])
    assert (told["words"], told["login"]) == (["--block"], ("ray", "ab" * 32))
    assert {"RAY_REDIS_PASSWORD", "MACAROON_ROOT_KEY", "REDIS_URL"} & set(told["environment"]) == set()
    assert "RAY_REDIS_ADDRESS" in told["environment"]


def test_the_password_may_be_in_a_file(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of-a-file\n")
    monkeypatch.setenv("RAY_REDIS_PASSWORD_FILE", str(file))
    run([])
    assert told["login"] == ("", "of-a-file")


@pytest.mark.parametrize("env", ["development", "production"])
@pytest.mark.parametrize("content", [None, "", " \n", "two\nlines"])
def test_a_file_without_a_password_does_not_start_ray_without_one(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, env: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SATMETER_ENV", env)
    monkeypatch.setenv("RAY_REDIS_PASSWORD_FILE", str(file))
    assert run([]) == 1
    assert told == {}


def test_production_sends_no_password_in_the_clear(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATMETER_ENV", "production")
    monkeypatch.setenv("RAY_REDIS_ADDRESS", "store.example:6379")
    assert run([]) == 1
    assert told == {}


def test_an_environment_that_is_mistyped_is_not_taken_for_development(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SATMETER_ENV", "Production")
    assert run([]) == 1
    assert told == {}


def test_a_start_that_fails_is_told_in_a_sentence(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_words: Any) -> None:
        raise RayStartError("it would tell all")

    monkeypatch.setitem(sys.modules, "satmeter.actors.cluster", SimpleNamespace(run_head=fails))
    assert run([]) == 1
    assert "it would tell all" in capsys.readouterr().err
    assert told == {}

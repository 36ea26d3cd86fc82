"""Checks of the settings beside each other: one fault hides no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.preflight.settings_checks import problems

FILE = """
[[upstreams]]
name = "far"
api = "openai"
base_url = "http://models.example/v1"
key_env = "FAR_KEY"
[models.small]
upstream = "far"
input = "1"
output = "2"
cache_read = "1"
cache_write_5m = "1"
cache_write_1h = "1"
"""


@pytest.mark.parametrize("model", ["small", "another"])
def test_a_key_that_would_travel_in_the_clear_is_told_beside_a_model_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    # What is not told of here is asked by `satmeter check`, with its key.
    (tmp_path / "models.toml").write_text(FILE)
    monkeypatch.setenv("FAR_KEY", "sk-far")
    given = {"SATMETER_MODELS_FILE": str(tmp_path / "models.toml"), "EVAL_MODEL": model, "WORK_MODEL": "small"}
    found = {problem.variable: problem.message for problem in problems(Settings.model_validate(given))}
    assert "in the clear" in found["SATMETER_MODELS_FILE"]
    assert ("EVAL_MODEL" in found) is (model == "another")

"""Problems of a configuration at the start: a line for each, which a person or a program reads."""

from __future__ import annotations

import json

import pytest

from satmeter.config.problem import Problem
from satmeter.scripts.server.problem_lines import show_problems

FOUND = [Problem("SATMETER_PORT", "Must be a number."), Problem("REDIS_URL", "The store does not answer.")]


def test_each_is_an_entry_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_problems(FOUND, refused=True)
    show_problems(FOUND[:1], refused=False)
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(entry["event"], entry["level"], entry["variable"]) for entry in entries] == [
        ("setting_refused", "error", "SATMETER_PORT"), ("setting_refused", "error", "REDIS_URL"),
        ("setting_questioned", "warning", "SATMETER_PORT"),
    ]  # fmt: skip
    assert entries[1]["hint"] == "REDIS_URL: The store does not answer."


def test_a_person_reads_the_variable_and_the_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.delenv("SATMETER_ENV", raising=False)
    show_problems(FOUND[:1], refused=True)
    assert capsys.readouterr().err == "SATMETER_PORT: Must be a number.\n"

"""Entries before logging is set up: a line for a person, or one of JSON."""

from __future__ import annotations

import io
import json

import pytest

from satmeter.config.log_entry import is_for_people, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {}, True), (False, {}, False), (True, {"SATMETER_ENV": "production"}, False),
        (True, {"satmeter_env": "production"}, False), (True, {"SATMETER_ENV": "development"}, True),
    ],
)  # fmt: skip
def test_a_person_reads_along_at_a_terminal_that_is_not_production_s(
    terminal: bool, environment: dict[str, str], expected: bool
) -> None:
    assert is_for_people(terminal=terminal, environment=environment) is expected


def test_a_long_sentence_is_broken_between_words_on_a_terminal() -> None:
    shown = Terminal()
    say(shown, "error", "setting_refused", "server", "PORT: " + "must be a number " * 9)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and [line[:2] for line in lines[1:]] == ["  ", "  "]


def test_what_is_said_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SATMETER_ENV", raising=False)
    shown, written = Terminal(), io.StringIO()
    for out in (shown, written):
        say(out, "error", "setting_refused", "server", "PORT: Must be a number.", variable="PORT")
    assert shown.getvalue() == "PORT: Must be a number.\n"
    entry = json.loads(written.getvalue())
    assert entry.pop("timestamp").endswith("Z") and entry.pop("pid") > 0
    assert entry == {
        "level": "error", "event": "setting_refused", "process": "server", "variable": "PORT",
        "hint": "PORT: Must be a number.",
    }  # fmt: skip

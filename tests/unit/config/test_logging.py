"""Logs: one line of JSON for each entry where no person reads along, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from satmeter.config.log_context import STEPS, log_as, tell_step, tells_steps
from satmeter.config.logging import configure_logging, log_by, printer
from satmeter.config.settings import Settings


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root, steps = logging.getLogger(), logging.getLogger(STEPS)
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    steps.setLevel(logging.NOTSET)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_entry_is_one_line_of_json_with_time_level_and_origin(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    structlog.get_logger("satmeter.host").info("moved", partitions=3)
    (entry,) = _lines(capsys)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "moved", "level": "info", "logger": "satmeter.host", "partitions": 3, "pid": os.getpid()
    }  # fmt: skip


def test_what_libraries_log_comes_out_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    logging.getLogger("uvicorn.error").warning("%s is odd", "it")
    (entry,) = _lines(capsys)
    assert (entry["event"], entry["level"], entry["logger"]) == ("it is odd", "warning", "uvicorn.error")


def test_entries_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    structlog.get_logger("x").info("quiet")
    logging.getLogger("x").info("quiet, too")
    assert _lines(capsys) == []


@pytest.mark.parametrize("name", ["httpx", "anthropic._base_client", "websockets.client"])
def test_libraries_that_write_whole_requests_are_kept_quiet_even_for_debugging(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug")
    logging.getLogger(name).info("GET /api/v1/ws/SECRET")
    logging.getLogger(name).debug("GET /api/v1/ws/SECRET")
    assert _lines(capsys) == []


@pytest.mark.parametrize("on_terminal", [False, True])
def test_a_traceback_shows_where_but_not_what_the_variables_held(
    on_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_terminal)
    configure_logging("info")
    try:
        hidden = "-".join(["SECRET", "PROMPT"])
        raise RuntimeError(f"length {len(hidden)}")
    except RuntimeError:
        structlog.get_logger("x").exception("broken")
    text = capsys.readouterr().err
    assert "broken" in text
    assert "RuntimeError: length 13" in text
    assert "SECRET-PROMPT" not in text
    assert (len(text.splitlines()) == 1) is not on_terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_production_is_json_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment, json_lines in (("production", True), ("development", False)):
        monkeypatch.setenv("SATMETER_ENV", environment)
        shown = Terminal()
        log_by(Settings(), "server", shown)
        structlog.get_logger("x").info("moved", partitions=3)
        assert shown.getvalue().startswith("{") is json_lines and "moved" in shown.getvalue()


def test_the_ids_of_the_work_are_in_its_entries_and_those_of_libraries_first_of_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", process="front")
    log_as("req_1", "ses_1")
    structlog.get_logger("x").info("moved", partitions=3)
    logging.getLogger("library").warning("odd")
    structlog.get_logger("x").info("other", request_id="req_2", actor_id="job_2")
    first, second, third = _lines(capsys)
    assert list(first)[:6] == ["timestamp", "level", "event", "process", "pid", "request_id"]
    assert (first["request_id"], first["session_id"], first["process"]) == ("req_1", "ses_1", "front")
    assert (second["request_id"], second["session_id"]) == ("req_1", "ses_1")
    assert (third["request_id"], third["job_id"]) == ("req_2", "job_2")
    assert not any("actor_id" in entry for entry in (first, second, third))


@pytest.mark.parametrize(
    ("level", "told", "expected"),
    [("info", "errors", False), ("info", "all", False), ("info", "steps", True), ("debug", "errors", True),
     ("warning", "steps", False)],
)  # fmt: skip
def test_steps_are_told_where_the_operator_asks_for_them(
    level: str, told: str, expected: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SATMETER_LOG_LEVEL", level)
    monkeypatch.setenv("SATMETER_LOG_REQUESTS", told)
    log_by(Settings(), "host")
    assert tells_steps() is expected
    tell_step("journal_written", version=3)
    assert bool(_lines(capsys)) is expected


def test_warnings_of_libraries_are_entries(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (entry,) = _lines(capsys)
    assert (entry["logger"], entry["level"]) == ("py.warnings", "warning") and "old" in entry["event"]


def test_a_line_that_was_cut_off_is_shown_as_it_is() -> None:
    shown = Terminal()
    printer(shown)([b'{"event": "whole", "level": "info"}', b'{"event": "cut o'])
    first, second = shown.getvalue().splitlines()
    assert "whole" in first and second == '{"event": "cut o'


def test_entries_of_other_processes_are_printed_in_the_form_of_this_one() -> None:
    line = b'{"event": "moved", "level": "info", "logger": "satmeter.host", "session_id": "ses_1"}'
    shown = Terminal()
    printer(shown)([line])
    assert "moved" in shown.getvalue() and "{" not in shown.getvalue()
    shown = Terminal()
    printer(shown, for_people=False)([line])
    assert shown.getvalue() == line.decode() + "\n"

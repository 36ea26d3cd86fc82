"""Logs: one line of JSON for each entry where no person reads along, and no secret in any of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from satmeter.config.logging import configure_logging, redact


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
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
    assert entry == {"event": "moved", "level": "info", "logger": "satmeter.host", "partitions": 3}


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


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "macaroon", "depositMacaroon", "preimage", "api_key", "X-Api-Key", "prompt",
        "request", "result", "payment_request", "paymentRequest", "bolt11", "MACAROON_ROOT_KEY", "operator_token",
    ],
)  # fmt: skip
def test_secrets_never_reach_a_log(name: str) -> None:
    entry = redact(None, "info", {"event": "x", name: "SECRET", "deep": [{name: {"er": "SECRET"}}]})
    assert "SECRET" not in json.dumps(entry)
    assert entry["event"] == "x"


@pytest.mark.parametrize("name", ["request_id", "input_tokens", "job_id", "payment_hash", "results"])
def test_what_an_operator_needs_stays_readable(name: str) -> None:
    assert redact(None, "info", {name: "plain"})[name] == "plain"


def test_a_password_inside_an_address_is_taken_out() -> None:
    entry = redact(None, "info", {"event": "no answer from redis://me:SECRET@store:6379/0", "url": "http://a/b"})
    assert entry == {"event": "no answer from redis://[redacted]@store:6379/0", "url": "http://a/b"}
    entry = redact(None, "info", {"event": "at redis+sentinel://a:1/m?sentinel_password=SECRET&ssl=1"})
    assert entry == {"event": "at redis+sentinel://a:1/m?sentinel_password=[redacted]&ssl=1"}


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

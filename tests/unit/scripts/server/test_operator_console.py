"""Words of the server about its start: for a person they fit the terminal, elsewhere they are entries of the log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from satmeter import __version__
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.config.logging import log_by
from satmeter.config.settings import Settings
from satmeter.scripts.server.operator_console import OperatorConsole


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SATMETER_ENV", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def said(out: io.StringIO, settings: Settings, fault: ModelFault | None = None) -> list[str]:
    log_by(settings, "server", out)
    console = OperatorConsole(out, settings)
    console.step("Starting the store …")
    console.serving(settings, 8402, fault)
    console.not_started("the disk [of the store] is full " * 4)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_person_reads_words_that_fit_the_terminal_but_for_the_commands_to_copy(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = said(Terminal(), Settings(), ModelFault.UNREACHABLE)
    assert lines[0] == "Starting the store …"
    assert "Satmeter serves at http://127.0.0.1:8402" in lines[2]
    assert [line for line in lines if len(line) > columns and "curl" not in line] == []
    assert any("stub" in line for line in lines) and "Ctrl-C or SIGTERM ends it." in lines
    failure = lines[lines.index("Ctrl-C or SIGTERM ends it.") + 1 :]
    assert failure[0].startswith("satmeter can't start: the disk [of the store] is full")


def test_elsewhere_they_are_entries_which_no_level_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATMETER_LOG_LEVEL", "error")
    for environment, out in (("development", io.StringIO()), ("production", Terminal())):
        monkeypatch.setenv("SATMETER_ENV", environment)
        starting, serving, failed = map(json.loads, said(out, Settings()))
        assert (starting["event"], starting["hint"]) == ("server_starting", "Starting the store …")
        assert (serving["event"], serving["url"], serving["process"]) == (
            "server_serves", "http://127.0.0.1:8402", "server"
        )  # fmt: skip
        assert serving["version"] == __version__
        assert serving["hint"] == "Satmeter serves at http://127.0.0.1:8402"
        assert serving["lightning"].startswith("stub: ") and serving["first_command"].startswith("curl -s http://")
        assert (failed["event"], failed["level"]) == ("server_not_started", "error")
        assert failed["hint"].startswith("satmeter can't start: the disk [of the store]")

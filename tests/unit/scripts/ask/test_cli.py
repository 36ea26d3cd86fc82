"""Session file of `satmeter ask` and `satmeter mcp`, where none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer

from satmeter.scripts.ask.cli import ask, default_file


def _homeless() -> NoReturn:
    raise RuntimeError("Could not determine home directory.")


def test_without_a_home_directory_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", _homeless)
    with pytest.raises(typer.Exit):
        default_file("http://127.0.0.1:8402")
    assert "--session-file" in capsys.readouterr().err


def test_a_state_directory_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setattr(Path, "home", _homeless)
    assert default_file("http://127.0.0.1:8402") == Path("/state/satmeter/session-127.0.0.1_8402.json")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"refund_to": "me@example.org"}, "--close"),
        ({"qr": True}, "--close"),
        ({"refund_to": "me@example.org", "qr": True, "close": True}, "one of them"),
    ],
)
def test_a_place_for_the_rest_needs_the_session_closed(
    options: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        ask("a question", **options)
    assert told in capsys.readouterr().err

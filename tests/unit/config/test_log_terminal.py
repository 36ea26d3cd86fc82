"""Entries on a terminal: in columns, within its width, in colour where that is wanted."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from satmeter.config.log_terminal import TerminalRenderer, wants_colour, width_of

AT = {"timestamp": "2026-11-30T08:04:04.123456Z", "level": "warning", "logger": "satmeter.http", "pid": 7}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def shown(monkeypatch: pytest.MonkeyPatch, columns: int, **fields: Any) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return TerminalRenderer(Terminal())(None, "", {**AT, **fields}).splitlines()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_all_but_the_first_stand_under_the_message(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"request_id": f"req_{'a' * 22}", "error": "the node said no, and then it said nothing more " * 3}
    long = {"places": [f"/srv/satmeter/http/middleware.py:{n} answer" for n in range(9)], "digest": "f" * 200}
    lines = shown(monkeypatch, columns, event="request_answered", hint="look at the node " * 9, **fields, **long)
    assert max(map(len, lines)) <= columns
    assert re.match(r"\d\d:\d\d:\d\d warning  request_answered", lines[0])
    assert all(line.startswith(" " * 18) for line in lines[1:])
    joined = "".join("".join(lines).split())
    assert "f" * 200 in joined and "middleware.py:8" in joined


def test_fields_of_all_entries_begin_in_one_column_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = shown(monkeypatch, 120, event="moved", count=3)
    (other,) = shown(monkeypatch, 120, event="host_unreachable", count=3)
    assert one.index("count=3") == other.index("count=3") == 44
    (narrow,) = shown(monkeypatch, 80, event="moved", count=3)
    assert narrow.endswith("moved  count=3")


def test_what_the_event_says_is_left_out_and_a_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = shown(monkeypatch, 120, event="moved", process="front")
    (other,) = shown(monkeypatch, 120, event="it is odd", process="front", logger="uvicorn.error")
    assert own.split()[2:] == ["moved", "process=front"]
    assert other.split()[2:] == ["it", "is", "odd", "process=front", "logger=uvicorn.error"]


def test_places_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 80, event="broken", places=["a.py:1 run", "b.py:2 call"], process="front")
    assert [line.strip() for line in lines[1:]] == ["places=", "a.py:1 run", "b.py:2 call", "process=front"]


def test_a_hint_and_a_traceback_have_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 1\n    x()\nKeyError: 1'
    lines = shown(monkeypatch, 120, event="broken", hint="look", exception=traceback)
    assert [line[18:] for line in lines[1:]] == ["look", *traceback.splitlines()]


def test_nothing_in_a_field_can_move_the_cursor_or_feign_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = shown(monkeypatch, 200, event="odd", path="a\x1b[2Jb\nc", empty="", spaced="a b", many=["a", 1])
    assert r'path=a\x1b[2Jb\nc  empty=""  spaced="a b"  many=a,1' in line


@pytest.mark.parametrize(
    ("environment", "terminal", "expected"),
    [
        ({}, True, True), ({}, False, False), ({"TERM": "dumb"}, True, False), ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True), ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False), ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
    ],
)  # fmt: skip
def test_colour_is_where_it_is_wanted(environment: dict[str, str], terminal: bool, expected: bool) -> None:
    assert wants_colour(Terminal() if terminal else io.StringIO(), environment) is expected


def test_colours_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shown(monkeypatch, 60, event="moved", count=3, error="the node said no " * 5)
    monkeypatch.setenv("NO_COLOR", "")
    coloured = shown(monkeypatch, 60, event="moved", count=3, error="the node said no " * 5)
    assert coloured != plain and [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured] == plain


def test_a_terminal_that_does_not_tell_its_width_has_80_columns_and_none_has_fewer_than_40() -> None:
    assert [width_of(Terminal(), env) for env in ({}, {"COLUMNS": "132"}, {"COLUMNS": "3"}, {"COLUMNS": "x"})] == [
        80, 132, 40, 80
    ]  # fmt: skip


def test_an_entry_without_a_time_is_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    render = TerminalRenderer(Terminal())
    assert render(None, "", {"event": "log_entries_dropped", "level": "warning", "count": 3}) == (
        "         warning  log_entries_dropped  count=3"
    )

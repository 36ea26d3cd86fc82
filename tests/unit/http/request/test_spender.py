"""The spender of a header: which header counts, and what can be a name."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.http.request.spender import HEADERS, spender_of

NOBODY = Grant(generation=0)


def asked(*headers: tuple[str, str]) -> HTTPConnection:
    return HTTPConnection({"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers]})


@pytest.mark.parametrize("header", HEADERS)
def test_each_header_names_the_spender(header: str) -> None:
    assert spender_of(asked((header, "agent-7")), NOBODY) == "agent-7"


def test_a_sub_agent_comes_before_its_conversation() -> None:
    both = asked(("x-claude-code-session-id", "the-conversation"), ("x-claude-code-agent-id", "researcher@team"))
    assert spender_of(both, NOBODY) == "researcher@team"


def test_the_name_of_a_caveat_wins() -> None:
    assert spender_of(asked(("x-claude-code-agent-id", "other")), Grant(generation=0, spender="helper")) is None


@pytest.mark.parametrize("value", ["", " ", "a b", "crew/cook", "x" * 65, "é", '"', "a\x00", "a\n"])
def test_what_can_not_be_a_name_is_left_out(value: str) -> None:
    assert spender_of(asked(("satmeter-spender", value)), NOBODY) is None
    # Another header may have one.
    assert spender_of(asked(("satmeter-spender", value), ("session-id", "a")), NOBODY) == "a"


def test_a_header_that_stands_twice_names_nobody() -> None:
    assert spender_of(asked(("session-id", "a"), ("session-id", "b")), NOBODY) is None

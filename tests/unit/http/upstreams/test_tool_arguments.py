"""Arguments of tool calls that no server could read: mended, and all else as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.llm.catalogue import Api
from satmeter.http.upstreams.chat_call import ChatBody
from satmeter.http.upstreams.tool_arguments import arguments_of, mended
from tests.helpers.models import entry, served


def history(*arguments: Any) -> list[Any]:
    calls = [
        {"id": str(at), "type": "function", "function": {"name": "f", "arguments": a}} for at, a in enumerate(arguments)
    ]
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": calls}]


def arguments_in(messages: Any) -> list[Any]:
    return [call["function"]["arguments"] for call in messages[1]["tool_calls"]]


def sent(messages: list[Any]) -> tuple[Any, int]:
    """Return the body that goes to the upstream, and the bound of its prompt."""
    data = json.dumps({"model": "tiny", "messages": messages}).encode()
    found = ChatBody(data, served(entry("tiny", upstream_model="tiny"), api=Api.OPENAI), str)
    call = found.call(300)
    assert call.prompt_tokens_max is not None
    return json.loads(call.body.data), call.prompt_tokens_max


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        (None, {}),
        ("", {}),
        (" \n", {}),
        ("null", {}),
        ('{"c":"find / -name', {"arguments": '{"c":"find / -name'}),
        ("[1,2]", {"arguments": "[1,2]"}),
        ("not json", {"arguments": "not json"}),
        ('{"a":1}{"b":2}', {"arguments": '{"a":1}{"b":2}'}),
    ],
)
def test_arguments_of_any_kind_become_an_object(given_: Any, read: Any) -> None:
    assert arguments_of(given_) == read


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("", {}),
        ("  ", {}),
        (None, {}),
        ("null", {}),
        ('{"c":"find / -name', {"arguments": '{"c":"find / -name'}),
        ("[1,2]", {"arguments": "[1,2]"}),
        ("not json", {"arguments": "not json"}),
        ('{"a":1}{"b":2}', {"arguments": '{"a":1}{"b":2}'}),
    ],
)
def test_what_is_no_object_becomes_one(given_: Any, expected: Any) -> None:
    body, _ = sent(history(given_, '{"a": 1}'))
    broken, good = arguments_in(body["messages"])
    assert json.loads(broken) == expected
    assert good == '{"a": 1}', "what can be read goes on as it came"


@pytest.mark.parametrize(
    "messages", [history('{"a":1}', "{}"), history({"a": 1}), [], None, ["x"], [{"tool_calls": 1}]]
)
def test_what_can_be_read_is_left_alone(messages: Any) -> None:
    assert mended(messages) is None


@pytest.mark.parametrize(("said", "arguments"), [("\ud83d", "{"), ("a", '{"a":"\ud83d')])
def test_half_a_character_goes_on_in_the_clients_bytes(said: str, arguments: str) -> None:
    messages = history(arguments)
    messages[0]["content"] = said
    body, _ = sent(messages)
    assert body["messages"] == messages


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=4))
def test_the_bound_of_the_prompt_covers_what_is_sent(arguments: list[str]) -> None:
    body, bound = sent(history(*arguments))
    assert bound >= len(json.dumps(body["messages"], ensure_ascii=False, separators=(",", ":")).encode())
    for text in arguments_in(body["messages"]):
        assert isinstance(json.loads(text), dict)

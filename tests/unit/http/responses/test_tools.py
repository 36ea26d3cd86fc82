"""Tools of a Responses request, with their names at the provider."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.helpers.responses import AGENTS, FUNCTION, PATCH, Json, asked, refusal

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def names(*tools: Json, **fields: Any) -> list[str]:
    return [tool["name"] for tool in asked(tools=list(tools), **fields).body.get("tools", [])]


def namespace(name: str, *tools: str) -> Json:
    return {"type": "namespace", "name": name, "tools": [{"type": "function", "name": tool} for tool in tools]}


def test_functions_go_on_as_they_are() -> None:
    strict = {**FUNCTION, "name": "strict", "strict": True}
    first, second = asked(tools=[FUNCTION, strict]).body["tools"]
    assert first == {
        "name": "weather",
        "description": "The weather somewhere.",
        "input_schema": FUNCTION["parameters"],
    }
    assert (second["strict"], second["input_schema"]["additionalProperties"]) == (True, False)
    assert asked(tools=[{"type": "function", "name": "f", "parameters": None}]).body["tools"][0]["input_schema"] == {
        "type": "object",
        "properties": {},
    }


def test_a_custom_tool_takes_one_text_and_tells_its_grammar() -> None:
    (tool,) = asked(tools=[PATCH]).body["tools"]
    assert tool["input_schema"]["required"] == ["input"]
    assert tool["description"].startswith("Patches a file.") and "start: LINE+" in tool["description"]
    assert asked(tools=[{"type": "custom", "name": "c"}]).body["tools"][0]["description"]


def test_a_namespace_is_flattened_and_told_of() -> None:
    found = asked(tools=[AGENTS, FUNCTION])
    assert [tool["name"] for tool in found.body["tools"]] == ["agents__close", "agents__tell", "weather"]
    assert found.wanted.tools["agents__close"] == ("function", "close", "agents")
    assert found.body["system"] == [
        {"type": "text", "text": "About the tools agents__close, agents__tell: Tools for agents."}
    ]


def test_names_at_the_provider_are_short_legal_and_differ() -> None:
    long = "mcp__" + "x" * 70
    tools = [
        {"type": "function", "name": "a__b"},
        namespace("a", "b"),
        namespace(long, "one", "two"),
        namespace("with space", "ü"),
    ]
    found = names(*tools)
    assert len(set(found)) == 5 and all(NAME.fullmatch(name) for name in found)
    assert found[0] == "a__b"
    kept = asked(tools=tools).wanted.tools
    assert {tool[1:] for tool in kept.values()} == {
        ("a__b", None),
        ("b", "a"),
        ("one", long),
        ("two", long),
        ("ü", "with space"),
    }


def test_calls_of_the_past_have_the_same_names_even_without_the_tools() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "close", "namespace": "agents", "arguments": "{}"}
    for tools in ([AGENTS], []):
        body = asked(tools=tools, input=[{"role": "user", "content": "x"}, call]).body
        assert body["messages"][1]["content"][0]["name"] == "agents__close"


def test_two_tools_of_one_name_are_refused() -> None:
    path, why = refusal(tools=[FUNCTION, {"type": "custom", "name": "weather"}])
    assert (path, why) == ("tools[1].name", "Two tools have this name")


TOOLS: list[Json] = [FUNCTION, PATCH, AGENTS]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "name": "weather"}, {"type": "tool", "name": "weather"}),
        ({"type": "custom", "name": "apply_patch"}, {"type": "tool", "name": "apply_patch"}),
        ({"type": "function", "name": "close", "namespace": "agents"}, {"type": "tool", "name": "agents__close"}),
        ({"type": "function", "name": "close"}, {"type": "tool", "name": "agents__close"}),
    ],
)
def test_each_choice_has_its_word(choice: Any, sent: Json | None) -> None:
    assert asked(tools=TOOLS, tool_choice=choice).body.get("tool_choice") == sent


def test_of_allowed_tools_only_these_are_offered() -> None:
    allowed = [{"type": "function", "name": "weather"}, {"type": "namespace", "name": "agents"}, {"type": "mcp"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    body = asked(tools=TOOLS, tool_choice=choice).body
    assert [tool["name"] for tool in body["tools"]] == ["weather", "agents__close", "agents__tell"]
    assert body["tool_choice"] == {"type": "any"}
    none: Json = {"type": "allowed_tools", "mode": "auto", "tools": []}
    assert "tools" not in asked(tools=TOOLS, tool_choice=none).body


def test_parallel_calls_can_be_turned_off() -> None:
    body = asked(tools=TOOLS, parallel_tool_calls=False).body
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"tool_choice": {"type": "function", "name": "nope"}, "tools": TOOLS}, "tool_choice"),
        ({"tool_choice": {"type": "web_search_preview"}, "tools": TOOLS}, "tool_choice.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "local_shell"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "file_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"name": "x"}]}, "tools[0].type"),
        ({"tools": [{**FUNCTION, "strict": True, "parameters": {"type": "object"}}]}, "tools[0].parameters"),
    ],
)
def test_what_can_t_be_done_is_refused_by_its_place(fields: Json, path: str) -> None:
    assert refusal(**fields)[0] == path


def test_tools_of_the_provider_that_every_program_offers_are_left_out_and_named() -> None:
    found = asked(
        tools=[{"type": "web_search"}, FUNCTION, {"type": "image_generation"}, {"type": "web_search_preview"}]
    )
    assert [tool["name"] for tool in found.body["tools"]] == ["weather"]
    assert found.ignored == ("tools[].web_search", "tools[].image_generation")

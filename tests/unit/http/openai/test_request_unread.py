"""Fields of chat completions without effect, which are told of; and cache marks, which work wherever they stand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.chats import HELLO, PNG, SONNET, Json, asked, refusal, text

MARK: Json = {"type": "ephemeral"}
HOUR: Json = {"type": "ephemeral", "ttl": "1h"}
CALL: Json = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"cache_control": 1}'}}
RESULT: Json = {"role": "tool", "tool_call_id": "c1", "content": "Rain."}
TOOL: Json = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def at(*messages: Json, **fields: Any) -> tuple[str, ...]:
    """Return the paths that are reported."""
    return asked(messages=list(messages) or HELLO, **fields).ignored


@pytest.mark.parametrize(
    ("found", "path"),
    [
        (at({**HELLO[0], "foo": 1}), "messages[].foo"),
        (at({**HELLO[0], "name": "ann"}), "messages[].name"),
        (at({"role": "system", "content": "Be brief.", "zip": {"a": 1}}, *HELLO), "messages[].zip"),
        (
            at(*HELLO, {"role": "assistant", "content": "Hm.", "reasoning_content": "Let me see"}),
            "messages[].reasoning_content",
        ),
        (at({"role": "user", "content": [text("Hi", zip=1)]}), "messages[].content[].zip"),
        (
            at({"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}]}),
            "messages[].content[].image_url.detail",
        ),
        (at(*HELLO, {"role": "assistant", "tool_calls": [{**CALL, "x": 1}]}, RESULT), "messages[].tool_calls[].x"),
        (
            at(*HELLO, {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "x": 1}}]}, RESULT),
            "messages[].tool_calls[].function.x",
        ),
        (at(*HELLO, {"role": "assistant", "tool_calls": [CALL]}, {**RESULT, "is_error": True}), "messages[].is_error"),
        (at(tools=[{**TOOL, "zip": 5}]), "tools[].zip"),
        (at(tools=[{**TOOL, "function": {**TOOL["function"], "zip": [1]}}]), "tools[].function.zip"),
        (at(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}, "a": 1}), "tool_choice.a"),
        (at(response_format={"type": "json_object", "a": 1}), "response_format.a"),
        (
            at(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "description": "d"}}),
            "response_format.json_schema.description",
        ),
        (at(stream_options={"include_obfuscation": True}), "stream_options.include_obfuscation"),
    ],
)
def test_what_has_no_effect_below_the_outermost_level_is_named(found: tuple[str, ...], path: str) -> None:
    assert found == (path,)


def test_each_name_stands_once_and_the_outermost_come_first() -> None:
    messages = [{"role": "user", "content": [text("Hi", a=1), text("Hi", a=2)], "b": number} for number in (1, 2)]
    assert at(*messages, seed=1) == ("seed", "messages[].content[].a", "messages[].b")


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_what_asks_for_nothing_is_not_told_of(value: Any) -> None:
    assert (
        at({**HELLO[0], "foo": value}, tools=[{**TOOL, "zip": value}], response_format={"type": "text", "a": value})
        == ()
    )


def test_what_is_read_and_what_programs_send_by_themselves_is_not_told_of() -> None:
    said: Json = {"role": "assistant", "content": "Hm.", "refusal": None, "annotations": [], "audio": None}
    calls = [{**CALL, "index": 1}]
    schema = {"type": "object", "properties": {"x": {"type": "string", "anything": 1}}}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    picture = {"type": "image_url", "image_url": {"url": PNG, "detail": "auto"}}
    messages = [
        *HELLO,
        said,
        {"role": "user", "content": [picture]},
        {"role": "assistant", "tool_calls": calls},
        RESULT,
    ]
    tools = [{**TOOL, "function": {**TOOL["function"], "parameters": schema}}]
    assert at(*messages, response_format=shape, tools=tools, stream_options={"include_usage": True}) == ()


def test_a_name_that_no_header_can_carry_is_not_told_of() -> None:
    assert at({**HELLO[0], "a\r\nb": 1, "x" * 65: 1, "ok": 1}) == ("messages[].ok",)


# Cache marks


def test_a_mark_on_a_message_reaches_to_its_last_block() -> None:
    body = asked(
        messages=[
            {"role": "system", "content": [text("One."), text("Two.")], "cache_control": HOUR},
            {"role": "user", "content": "Hello", "cache_control": MARK},
            {"role": "assistant", "content": "Hm.", "tool_calls": [CALL], "cache_control": MARK},
            {**RESULT, "cache_control": MARK},
        ]
    ).body
    assert body["system"] == [text("One."), text("Two.", cache_control=HOUR)]
    first, second, third = (turn["content"] for turn in body["messages"])
    assert first == [text("Hello", cache_control=MARK)]
    assert "cache_control" not in second[0] and second[1]["cache_control"] == MARK
    assert third == [
        {"type": "tool_result", "tool_use_id": "c1", "content": [text("Rain.")], "cache_control": MARK},
    ]


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_a_marked_message_of_any_role_is_marked_there_and_not_told_of(role: str) -> None:
    found = asked(messages=[*HELLO, {"role": role, "content": "Long", "cache_control": MARK}])
    assert str(found.body).count("cache_control") == 1 and found.ignored == ()


@pytest.mark.parametrize(
    "tool", [{**TOOL, "cache_control": HOUR}, {**TOOL, "function": {**TOOL["function"], "cache_control": HOUR}}]
)
def test_a_mark_on_a_tool_stands_on_the_tool(tool: Json) -> None:
    found = asked(tools=[TOOL, tool])
    assert [entry.get("cache_control") for entry in found.body["tools"]] == [None, HOUR]
    assert found.ignored == ()


def test_a_mark_on_the_request_goes_on() -> None:
    found = asked(cache_control=MARK)
    assert found.body["cache_control"] == MARK and found.ignored == ()


def test_four_marks_are_taken_and_a_fifth_is_refused_by_name() -> None:
    marked = [{"role": "user", "content": "Hi", "cache_control": MARK} for _ in range(3)]
    messages = [{"role": "system", "content": "Be brief.", "cache_control": MARK}, *marked]
    assert str(asked(messages=messages).body).count("cache_control") == 4
    path, told = refusal(messages=messages, tools=[{**TOOL, "cache_control": MARK}])
    assert path == "cache_control" and "At most 4" in told and "has 5" in told
    assert refusal(messages=messages, cache_control=MARK)[0] == "cache_control"
    parts = [text("Rain.", cache_control=MARK), text("Sun.", cache_control=MARK)]
    history = [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, {**RESULT, "content": parts}]
    assert refusal(messages=[*messages, *history])[0] == "cache_control"


def test_what_a_tool_is_called_with_is_no_mark() -> None:
    schema = {"type": "object", "properties": {"cache_control": {"type": "string"}}}
    calls = {"role": "assistant", "tool_calls": [{**CALL, "id": f"c{number}"} for number in range(9)]}
    results = [{**RESULT, "tool_call_id": f"c{number}"} for number in range(9)]
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    assert asked(model=SONNET, messages=[*HELLO, calls, *results], tools=tools).ignored == ()

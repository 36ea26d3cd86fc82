"""The scripted Messages API refuses what the real one refuses, and does what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.scripted_messages import answer, events

WEATHER = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
SHELL = {
    "name": "shell",
    "input_schema": {
        "type": "object",
        "properties": {"command": {"type": "array"}, "why": {"enum": ["a", "b"]}},
        "required": ["command", "why"],
    },
}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]}


def body(*content: Any, **fields: Any) -> dict[str, Any]:
    """Messages of user and assistant in turn."""
    messages = [{"role": ("user", "assistant")[place % 2], "content": one} for place, one in enumerate(content)]
    return {"model": "m", "max_tokens": 5, "messages": messages, **fields}


def test_it_calls_the_tool_that_it_is_told_to_call() -> None:
    told = answer(body('[[call weather {"city": "Rome"}]]', tools=[WEATHER]))
    assert told["stop_reason"] == "tool_use" and told["content"][-1]["input"] == {"city": "Rome"}
    run = answer(body("[[run ls -l]]", tools=[SHELL]))["content"][-1]
    assert run["input"] == {"command": ["bash", "-c", "ls -l"], "why": "a"}
    forced = answer(body("hi", tools=[WEATHER], tool_choice={"type": "tool", "name": "weather"}))
    assert forced["content"][0]["name"] == "weather"


def test_it_tells_results_and_words_back() -> None:
    assert "rain" in answer(body("hi", [USE], [RESULT]))["content"][0]["text"]
    assert "sextant" in answer(body("a sextant"))["content"][0]["text"]
    assert answer(body("[[spend]]"))["usage"]["output_tokens"] == 5
    assert b'"partial_json"' in events(answer(body("[[call weather]]", tools=[WEATHER])))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "an object"),
        (body("hi", thread={}), "thread: Extra inputs"),
        (body(), "at least one message"),
        (body(""), "non-empty content"),
        (body("hi") | {"messages": [{"role": "user", "content": "hi", "name": "me"}]}, "is not permitted"),
        (body("hi") | {"messages": [{"role": "tool", "content": "hi"}]}, "is not permitted"),
        (body([{"type": "text", "text": " "}]), "non-whitespace"),
        (body("hi", system=[{"type": "text", "text": ""}]), "non-empty"),
        (body("hi", [USE], "and?"), "without `tool_result`"),
        (body("hi", [USE]), "without `tool_result`"),
        (body([RESULT]), "unexpected `tool_use_id`"),
        (body("hi", [USE | {"id": "a.b"}], [RESULT | {"tool_use_id": "a.b"}]), "not valid"),
        (body("hi", [{"type": "thinking", "thinking": "x"}], "hi"), "signature: Field required"),
        (body("hi", "and so "), "trailing whitespace"),
        (body("hi", tools=[WEATHER, WEATHER]), "unique"),
        (body("hi", tools=[{"name": "a b"}]), "match pattern"),
        (body("hi", tools=[{"name": "a", "input_schema": {}}]), "should be 'object'"),
        (body("hi", tool_choice={"type": "auto"}), "while providing tools"),
        (body("hi", max_tokens=0), "max_tokens"),
    ],
)
def test_it_refuses_what_the_real_one_refuses(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r".+") as refused:
        answer(wrong)
    assert said in str(refused.value)

"""Responses requests as bodies of chat completions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.catalogue import Api
from satmeter.http.responses.thoughts import ChatThought, Thinking, sealed
from tests.helpers.chat_answers import MODEL, TINY, Json, chat, chat_refusal, tool_call
from tests.helpers.responses import AGENTS, FUNCTION, PATCH

PNG = "data:image/png;base64,iVBORw0KGgo="
TOOLS: Json = {"tools": [FUNCTION, PATCH, AGENTS]}


def sent(*items: Any, **fields: Any) -> list[Json]:
    """The messages for these items."""
    found: list[Json] = chat(input=list(items), **fields).body["messages"]
    return found


def user(text: Any = "Hi") -> Json:
    return {"role": "user", "content": text}


def called(name: str = "weather", arguments: Any = "{}", call_id: str = "c1", **fields: Any) -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **fields}


def result(output: Any = "sunny", call_id: str = "c1", kind: str = "function_call_output") -> Json:
    return {"type": kind, "call_id": call_id, "output": output}


def thought(content: str) -> Json:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": content}


# The whole body


def test_a_text_is_the_user_s_message() -> None:
    found = chat()
    assert found.body == {"model": "tiny-llama", "messages": [user("Hello")]}
    assert (found.ignored, found.stream, found.thinks, found.max_tokens) == ((), False, False, None)


def test_the_call_has_the_limit_where_it_may_be_lowered_and_a_bound() -> None:
    call = chat(replace(TINY, context_tokens=None), max_output_tokens=70).call(300)
    assert (call.model, call.api, call.stream, call.body.choices) == (MODEL, Api.OPENAI, False, 1)
    assert json.loads(call.body.data)["max_tokens"] == call.body.max_tokens == 70
    assert json.loads(call.body.lowered(3))["max_tokens"] == 3
    assert call.prompt_tokens_max == len(call.body.data) + 2_000
    assert chat().call(300).body.max_tokens == 300
    newer = json.loads(replace(chat(), limit_field="max_completion_tokens").call(300).body.data)
    assert newer["max_completion_tokens"] == 300 and "max_tokens" not in newer
    assert chat(replace(TINY, max_output_tokens=50), max_output_tokens=70).call(300).body.max_tokens == 50
    assert chat(input="x" * 20_000).call(300).prompt_tokens_max == 8_192


def test_a_stream_always_asks_for_its_usage() -> None:
    found = chat(stream=True)
    assert (found.body["stream"], found.body["stream_options"]) == (True, {"include_usage": True})
    assert found.call(9).stream


def test_options_go_on_by_their_names_there() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}
    shape = {"type": "json_schema", "name": "shape", "schema": schema, "strict": True, "description": "d"}
    found = chat(
        temperature=1.5, top_p=0.5, reasoning={"effort": "high"}, text={"format": shape}, user="anna@example.org"
    )
    assert found.body == {
        "model": "tiny-llama",
        "messages": [user("Hello")],
        "temperature": 1.5,
        "top_p": 0.5,
        "reasoning_effort": "high",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "shape", "description": "d", "schema": schema, "strict": True},
        },
        "user": "hidden-16",
    }
    assert found.thinks and found.ignored == ()
    assert chat(text={"format": {"type": "json_object"}}).body["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat(text={"format": {"type": "text"}}).body
    assert found.wanted.echo["text"]["format"]["strict"] is True
    loose = chat(text={"format": {"type": "json_schema", "name": "s", "schema": schema}})
    assert loose.wanted.echo["text"]["format"]["strict"] is False
    assert "strict" not in loose.body["response_format"]["json_schema"]


def test_what_has_no_effect_is_named() -> None:
    part = {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
    found = chat(
        input=[user([part, part])],
        prompt_cache_key="k",
        store=True,
        truncation="auto",
        seed=5,
        tools=[{"type": "web_search"}],
        text={"verbosity": "low"},
    )
    assert set(found.ignored) == {
        "tools[].web_search",
        "seed",
        "text.verbosity",
        "store",
        "truncation",
        "prompt_cache_key",
        "input[].content[].prompt_cache_breakpoint",
    }


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"input": []}, "input"),
        ({"input": [user(""), {"role": "assistant", "content": ""}]}, "input"),
        ({"input": [{"role": "system", "content": [{"type": "input_image", "image_url": PNG}]}]}, "input[0].content"),
        ({"input": [user(), result()]}, "input[1].call_id"),
        ({"input": [user(), thought("gAAAAAB")]}, "input[1].encrypted_content"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    ],
)
def test_what_can_t_be_done_is_refused_by_its_name(fields: Json, path: str) -> None:
    assert chat_refusal(**fields)[0] == path


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"type": "input_file", "file_id": "f"}, ""),
        ({"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0="}, ""),
        ({"type": "input_image", "file_id": "f"}, ".file_id"),
        ({"type": "input_image", "image_url": "data:image/tiff;base64,AAAA"}, ".image_url"),
        ({"type": "input_image", "image_url": "http://127.0.0.1/x.png"}, ".image_url"),
        ({"type": "input_audio"}, ".type"),
    ],
)
def test_a_part_that_can_t_go_on_is_refused_at_its_place(part: Json, path: str) -> None:
    assert chat_refusal(input=[user([part])])[0] == f"input[0].content[0]{path}"


def test_an_image_without_a_known_context_is_refused_at_its_place() -> None:
    image = {"type": "input_image", "image_url": PNG}
    entry = replace(TINY, context_tokens=None)
    assert chat_refusal(entry, input=[user([image])])[0] == "input[0].content[0].image_url"
    nested = [user(), called(), result([{"type": "input_text", "text": "x"}, image])]
    assert chat_refusal(entry, input=nested)[0] == "input[2].output[1].image_url"
    assert chat(input=nested).call(9).prompt_tokens_max == 8_192


# Messages


def test_instructions_come_first_wherever_they_stand() -> None:
    items = [user(), {"role": "developer", "content": "Be kind."}, {"role": "system", "content": "Now."}]
    assert sent(*items, instructions="Be brief.") == [
        {"role": "system", "content": "Be brief.\n\nBe kind.\n\nNow."},
        user(),
    ]
    assert sent({"role": "system", "content": "a"}, {"role": "system", "content": "b"}) == [
        {"role": "system", "content": "a"},
        user("b"),
    ]


def test_turns_of_one_role_are_joined_and_texts_are_strings() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": ""}]
    said = [{"type": "output_text", "text": "c"}, {"type": "refusal", "refusal": "d"}]
    assert sent(user(parts), user("b"), {"role": "assistant", "content": said}, user("e")) == [
        user("a\n\nb"),
        {"role": "assistant", "content": "cd"},
        user("e"),
    ]


def test_images_stand_among_the_parts_with_the_type_that_they_have() -> None:
    items = [
        {"type": "input_text", "text": "See:"},
        {"type": "input_image", "image_url": PNG.replace("png", "jpeg"), "detail": "high"},
        {"type": "input_image", "image_url": "https://example.org/cat"},
        {"type": "input_file", "file_data": PNG, "filename": "a.png"},
    ]
    (message,) = sent(user(items))
    assert message["content"] == [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat"}},
        {"type": "image_url", "image_url": {"url": PNG}},
    ]
    assert chat(input=[user(items)]).ignored == ()


def test_calls_are_one_message_and_their_results_follow_it() -> None:
    patch = {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": '*** "x"'}
    found = sent(
        user(),
        {"role": "assistant", "content": "I look."},
        called(arguments='{"city": "Rome"}'),
        patch,
        user("Hurry!"),
        result(call_id="c2", output=[{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
               kind="custom_tool_call_output"),
        result(),
        called("close", {"id": 1}, "c3", namespace="agents"),
        result(None, "c3"),
        **TOOLS,
    )  # fmt: skip
    # An order that no client should send, but some do: the user speaks before the results.
    assert found[1:] == [
        user(),
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                tool_call("weather", '{"city": "Rome"}', "c1"),
                tool_call("apply_patch", '{"input":"*** \\"x\\""}', "c2"),
            ],
        },
        {"role": "tool", "tool_call_id": "c2", "content": "a\n\nb"},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        user("Hurry!"),
        {"role": "assistant", "content": None, "tool_calls": [tool_call("agents__close", '{"id":1}', "c3")]},
        {"role": "tool", "tool_call_id": "c3", "content": ""},
    ]


def test_images_of_results_are_shown_by_the_user() -> None:
    image = {"type": "input_image", "image_url": PNG}
    items = [user(), called(), called(call_id="c2"), result([image]), result("x", "c2")]
    *_, first, second, shown = sent(*items)
    assert (first["role"], second) == ("tool", {"role": "tool", "tool_call_id": "c2", "content": "x"})
    assert "1 image" in first["content"]
    assert shown["role"] == "user"
    assert [part["type"] for part in shown["content"]] == ["text", "image_url"]
    assert "c1" in shown["content"][0]["text"]
    assert [part["type"] for part in sent(*items, user("And?"))[-1]["content"]] == ["text", "image_url", "text"]
    assert [message["role"] for message in sent(*items, {"role": "assistant", "content": "A cat."})][-2:] == [
        "user",
        "assistant",
    ]


@pytest.mark.parametrize(
    ("given", "goes_on"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        (None, "{}"),
        ({"a": 1}, '{"a":1}'),
        ('{"city": "Ro', '{"arguments":"{\\"city\\": \\"Ro"}'),
        ("null", "{}"),
        ("[1]", '{"arguments":"[1]"}'),
    ],
)
def test_arguments_are_always_an_object(given: Any, goes_on: str) -> None:
    message = sent(user(), called(arguments=given), result())[1]
    assert message["tool_calls"][0]["function"]["arguments"] == goes_on


# Thoughts


def test_thoughts_go_back_to_the_model_that_had_them_until_the_user_says_more() -> None:
    seal = sealed(ChatThought("Let me see", "reasoning_content", MODEL))
    items = [user(), thought(seal), called(), result()]
    assert sent(*items)[1]["reasoning_content"] == "Let me see"
    assert "reasoning_content" not in sent(*items, user("More"))[1]
    # A thought alone, or before a text, is not asked for.
    assert sent(user(), thought(seal)) == [user()]
    assert sent(user(), thought(seal), {"role": "assistant", "content": "x"})[1] == {
        "role": "assistant",
        "content": "x",
    }
    assert chat(input=items).ignored == ()


@pytest.mark.parametrize(
    "seal",
    [
        sealed(ChatThought("Let me see", "reasoning", "another")),
        sealed(Thinking("Let me see", "c2ln")),
        None,
    ],
)
def test_thoughts_of_other_models_stay_here(seal: Any) -> None:
    found = chat(input=[user(), thought(seal), called(), result()])
    assert "Let me see" not in json.dumps(found.body) and "c2ln" not in json.dumps(found.body)
    assert found.ignored == ("input[].reasoning",)


def test_a_thought_among_the_parts_of_a_content_has_no_field_to_go_back_in() -> None:
    found = sent(user(), thought(sealed(ChatThought("Let me see", "", MODEL))), called(), result())
    assert set(found[1]) == {"role", "content", "tool_calls"}


# Tools


def test_all_tools_are_functions() -> None:
    strict = {**FUNCTION, "name": "strict", "strict": True}
    found = chat(tools=[FUNCTION, strict, PATCH, AGENTS, {"type": "function", "name": "f", "parameters": None}])
    functions = [tool["function"] for tool in found.body["tools"]]
    assert {tool["type"] for tool in found.body["tools"]} == {"function"}
    assert [function["name"] for function in functions] == [
        "weather", "strict", "apply_patch", "agents__close", "agents__tell", "f",
    ]  # fmt: skip
    assert functions[0] == {name: FUNCTION[name] for name in ("name", "description", "parameters")}
    assert functions[1]["strict"] is True
    assert functions[2]["parameters"]["required"] == ["input"] and "start: LINE+" in functions[2]["description"]
    assert functions[5]["parameters"] == {"type": "object", "properties": {}}
    assert found.wanted.tools["agents__tell"] == ("custom", "tell", "agents")
    assert found.body["messages"][0] == {
        "role": "system",
        "content": "About the tools agents__close, agents__tell: Tools for agents.",
    }


@pytest.mark.parametrize(
    ("choice", "goes_on", "count"),
    [
        (None, None, 4),
        ("auto", None, 4),
        ("none", "none", 4),
        ("required", "required", 4),
        ({"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}, 4),
        ({"type": "custom", "name": "tell"}, {"type": "function", "function": {"name": "agents__tell"}}, 4),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "agents"}]}, None, 2),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
            "required",
            1,
        ),
    ],
)
def test_the_choice_of_a_tool(choice: Any, goes_on: Any, count: int) -> None:
    body = chat(**TOOLS, tool_choice=choice).body
    assert (body.get("tool_choice"), len(body["tools"])) == (goes_on, count)


def test_a_choice_of_no_tool_at_all() -> None:
    nothing = {"type": "allowed_tools", "mode": "auto", "tools": []}
    assert "tools" not in chat(**TOOLS, tool_choice=nothing).body
    assert chat_refusal(tool_choice="required")[0] == "tool_choice"
    assert chat_refusal(**TOOLS, tool_choice={"type": "function", "name": "none"})[0] == "tool_choice"
    assert chat(**TOOLS, parallel_tool_calls=False).body["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in chat(**TOOLS, parallel_tool_calls=True).body
    assert "parallel_tool_calls" not in chat(parallel_tool_calls=False).body


def test_half_a_character_is_refused() -> None:
    with pytest.raises(RefusedError):
        chat(input="\ud800").call(9)

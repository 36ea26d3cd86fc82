"""A chat completion request in the words of the Messages API: what is mapped, what is refused, what is let pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.openai.request import Asked, asked_of
from tests.helpers.chats import HAIKU, HELLO, MODELS, OLD, OPUS, SONNET, Json, asked, refusal, said, text, user

WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": {"name": "clock"}}]
FREE = {"name": "f", "strict": True, "parameters": {"additionalProperties": True}}


def shape(**fields: Any) -> Json:
    return {"response_format": {"type": "json_schema", **fields}}


def test_the_smallest_request_becomes_the_smallest_body() -> None:
    assert asked() == Asked(
        body={"model": SONNET, "messages": [user(text("Hello"))], "thinking": {"type": "between_tools"}},
        thinks=False,
        max_tokens=None,
        stream=False,
        include_usage=False,
        ignored=(),
    )


# Tools


def test_tools_keep_names_descriptions_and_schemas() -> None:
    clock = {"name": "clock", "description": "The time.", "parameters": None, "strict": None}
    body = asked(tools=[{"type": "function", "function": WEATHER}, {"function": clock}]).body
    assert body["tools"] == [
        {"name": "weather", "input_schema": WEATHER["parameters"]},
        {"name": "clock", "description": "The time.", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert "tool_choice" not in body


def test_a_strict_tool_is_strict_there_too() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "additionalProperties": False}
    (tool,) = asked(tools=[{"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}]).body[
        "tools"
    ]
    assert tool["strict"] is True
    assert tool["input_schema"] == {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": "{minimum: 1}"}},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, None),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}}, {"type": "tool", "name": "clock"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_the_choice_among_tools_is_kept(fields: Json, choice: Json | None) -> None:
    assert asked(tools=TOOLS, **fields).body.get("tool_choice") == choice


def test_of_allowed_tools_only_these_are_offered() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "clock"}}]}
    body = asked(tools=TOOLS, tool_choice={"type": "allowed_tools", "allowed_tools": allowed}).body
    assert [tool["name"] for tool in body["tools"]] == ["clock"]
    assert body["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize("fields", [{"tools": []}, {"tools": None}, {"tools": [], "tool_choice": "auto"}])
def test_no_tools_are_no_tools_whatever_is_said_of_them(fields: Json) -> None:
    assert asked(parallel_tool_calls=True, **fields).body.keys() == {"model", "messages", "thinking"}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [{"type": "retrieval", "function": WEATHER}]}, "tools[0].type"),
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nothing"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"function": FREE}]}, "tools[0].function.parameters"),
    ],
)
def test_tools_that_are_not_there_are_refused(fields: Json, path: str) -> None:
    assert refusal(**fields)[0] == path


# What shapes the answer


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": None}, None),
    ],
)
def test_either_name_of_the_longest_answer_is_taken(fields: Json, expected: int | None) -> None:
    assert asked(**fields).max_tokens == expected


@pytest.mark.parametrize(
    ("stop", "expected"), [("END", ["END"]), (["a", "\nb"], ["a", "\nb"]), ([], None), ("", None), (None, None)]
)
def test_stops_are_a_string_or_a_list(stop: Any, expected: list[str] | None) -> None:
    assert asked(stop=stop).body.get("stop_sequences") == expected


@pytest.mark.parametrize(
    ("model", "sent", "body", "ignored"),
    [
        (OLD, {"temperature": 0}, {"temperature": 0}, ()),
        (OLD, {"temperature": 1.7}, {"temperature": 1.0}, ()),
        (OLD, {"temperature": 1, "top_p": 0.5}, {"top_p": 0.5}, ()),
        (OLD, {"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2}, ("top_p",)),
        (OLD, {"temperature": 0.2, "top_p": 1}, {"temperature": 0.2}, ()),
        (SONNET, {"temperature": 0.2, "top_p": 0.5}, {}, ("temperature", "top_p")),
        (SONNET, {"temperature": 1, "top_p": 1.0}, {}, ()),
        ("claude-of-an-operator", {"temperature": 0.2}, {}, ("temperature",)),
    ],
)
def test_sampling_goes_to_models_that_take_it_and_is_told_of_where_not(
    model: str, sent: Json, body: Json, ignored: tuple[str, ...]
) -> None:
    found = asked(model=model, **sent)
    assert {name: found.body[name] for name in ("temperature", "top_p") if name in found.body} == body
    assert found.ignored == ignored


@pytest.mark.parametrize(
    ("model", "effort", "body", "ignored"),
    [
        (SONNET, None, {"thinking": {"type": "between_tools"}}, ()),
        (SONNET, "none", {"thinking": {"type": "between_tools"}}, ()),
        (HAIKU, "minimal", {"thinking": {"type": "disabled"}}, ()),
        (HAIKU, "high", {"output_config": {"effort": "high"}}, ()),
        (OPUS, None, {}, ()),
        (OPUS, "none", {"output_config": {"effort": "low"}}, ()),
        (OPUS, "max", {"output_config": {"effort": "max"}}, ()),
        (OLD, None, {}, ()),
        (OLD, "none", {}, ()),
        (OLD, "high", {}, ("reasoning_effort",)),
    ],
)
def test_a_model_thinks_as_hard_as_asked_and_else_as_little_as_it_can(
    model: str, effort: str | None, body: Json, ignored: tuple[str, ...]
) -> None:
    found = asked(model=model, reasoning_effort=effort)
    assert {name: found.body[name] for name in ("thinking", "output_config") if name in found.body} == body
    assert found.ignored == ignored


@pytest.mark.parametrize(
    ("model", "effort", "thinks"),
    [(SONNET, None, False), (SONNET, "low", True), (OPUS, None, True), (OPUS, "none", True), (OLD, "high", False)],
)
def test_it_says_whether_the_model_may_think_first(model: str, effort: str | None, thinks: bool) -> None:
    assert asked(model=model, reasoning_effort=effort).thinks is thinks


def test_a_json_schema_is_held_to_by_the_api() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = shape(json_schema={"name": "verdict", "strict": True, "schema": schema})
    body = asked(**wanted, reasoning_effort="low").body
    assert body["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}},
    }


def test_a_json_object_of_any_shape_is_asked_for_in_words() -> None:
    body = said({"role": "system", "content": "Be brief."}, *HELLO)
    asked_for = asked(
        messages=[{"role": "system", "content": "Be brief."}, *HELLO], response_format={"type": "json_object"}
    ).body
    assert asked_for["system"][:-1] == body["system"]
    assert "single JSON object" in asked_for["system"][-1]["text"]
    assert asked(response_format={"type": "text"}).body == asked().body


def test_streams_say_whether_they_tell_the_usage() -> None:
    assert (asked(stream=True).stream, asked(stream=True).include_usage) == (True, False)
    assert asked(stream=True, stream_options={"include_usage": True}).include_usage
    assert not asked(stream=None, stream_options=None).stream


def test_the_user_goes_on_as_a_digest_that_is_stable() -> None:
    shown = [asked(user="ann@example.com"), asked(safety_identifier="ann@example.com", user="other"), asked(user="bob")]
    ids = [found.body["metadata"]["user_id"] for found in shown]
    assert ids[0] == ids[1] != ids[2]
    assert all(len(found) == 32 and "ann" not in found for found in ids)
    assert "metadata" not in asked(user="").body


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [WEATHER]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"stop": [" \n"]}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (shape(), "response_format.json_schema"),
        (shape(json_schema={"name": "x"}), "response_format.json_schema.schema"),
        (shape(json_schema={"schema": {"type": "object"}}), "response_format.json_schema.schema"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_can_t_be_done_is_refused_by_its_name(fields: Json, path: str) -> None:
    assert refusal(**fields)[0] == path


def test_an_unknown_model_is_told_where_the_known_ones_are() -> None:
    with pytest.raises(RefusedError) as caught:
        asked(model="gpt-5")
    told = caught.value.refusal
    assert (told.code, told.message) == (
        "model_not_found",
        "There is no such model; GET /v1/models lists those that exist.",
    )


def test_a_dated_version_of_a_model_is_that_model() -> None:
    dated = asked(model=f"{OLD}-20251001", temperature=0.5)
    assert (dated.body["model"], dated.body["temperature"], dated.ignored) == (f"{OLD}-20251001", 0.5, ())


def test_the_body_that_is_sent_has_a_longest_answer_and_says_whether_it_streams() -> None:
    assert json.loads(asked().encoded(77)) == {**asked().body, "max_tokens": 77}
    assert json.loads(asked(max_tokens=5, stream=True).encoded(77)) == {**asked().body, "max_tokens": 5, "stream": True}


def test_what_changes_nothing_is_let_pass_and_told_of() -> None:
    found = asked(
        frequency_penalty=0,
        presence_penalty=0.5,
        logit_bias={},
        logprobs=False,
        metadata={"a": "b"},
        modalities=["text"],
        n=1,
        seed=7,
        service_tier="auto",
        store=True,
        verbosity="medium",
        prompt_cache_key="k",
    )
    assert found.body == asked().body
    assert found.ignored == ("presence_penalty", "metadata", "seed", "store", "prompt_cache_key")


def test_names_that_no_header_can_carry_are_not_told_of() -> None:
    assert asked(**{"a\r\nSet-Cookie: x": 1, "ключ": 2, "fine": 3}).ignored == ("fine",)
    assert len(asked(**{f"field{number}": 1 for number in range(50)}).ignored) == 20


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b'{"model": "' + b"\xff" + b'"}'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        asked_of(body, MODELS)
    assert refused.value.refusal.code is Code.INVALID_REQUEST


@pytest.mark.parametrize(("depth", "fits"), [(100, True), (5_000, False)])
def test_a_schema_without_a_bottom_is_refused_and_not_fallen_into(depth: int, fits: bool) -> None:
    schema = '{"type":"array","items":' * depth + '{"type":"null"}' + "}" * depth
    body = json.dumps({"model": SONNET, "messages": HELLO, **shape(json_schema={"schema": "?"})})
    sent = body.replace('"?"', schema).encode()
    if fits:
        assert "output_config" in asked_of(sent, MODELS).body
    else:
        with pytest.raises(RefusedError):
            asked_of(sent, MODELS)


def test_a_wrong_value_is_never_quoted() -> None:
    secret = "the-secret-words-of-a-client"
    for fields in ({"messages": [{"role": secret}]}, {"reasoning_effort": secret}, {"temperature": secret}):
        assert secret not in "".join(refusal(**fields))

"""Responses requests as bodies of the Messages API."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.domain.errors import RefusedError
from satmeter.http.responses.request import asked_of
from satmeter.http.responses.thoughts import ChatThought, sealed
from tests.helpers.responses import ENCRYPTED, FUNCTION, HAIKU, MODELS, OLD, OPUS, Json, asked, refusal

PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0xLjQ="


def text(words: str, **fields: Any) -> Json:
    return {"type": "text", "text": words, **fields}


def part(words: str, **fields: Any) -> Json:
    return {"type": "input_text", "text": words, **fields}


def user(*content: Json) -> Json:
    return {"role": "user", "content": list(content)}


def said(*items: Json, **fields: Any) -> Json:
    return asked(input=list(items), **fields).body


def test_the_least_request_is_a_text() -> None:
    found = asked()
    assert found.body == {
        "model": "claude-sonnet-5-5",
        "messages": [user(text("Hello"))],
        "thinking": {"type": "between_tools"},
    }
    assert (found.ignored, found.stream, found.max_tokens, found.thinks, found.wanted.seals) == (
        (),
        False,
        None,
        False,
        False,
    )


def test_instructions_go_to_the_system_prompt_wherever_they_stand() -> None:
    body = said(
        {"role": "system", "content": "One"},
        {"type": "message", "role": "user", "content": "Hello"},
        {"role": "developer", "content": [part("Two")]},
        instructions="Zero",
    )
    assert body["system"] == [text("Zero"), text("One"), text("Two")]
    assert body["messages"] == [user(text("Hello"))]


def test_instructions_alone_are_the_user_s() -> None:
    blank: list[Json] = [{"input": None}, {"input": " "}, {"input": []}]
    for fields in blank:
        body = asked(instructions="Say hello.", **fields).body
        assert body["messages"] == [user(text("Say hello."))] and "system" not in body


def test_images_files_and_marks_go_along() -> None:
    body = said(
        {
            "role": "user",
            "content": [
                part("What is this?", prompt_cache_breakpoint={"mode": "explicit"}),
                {"type": "input_image", "image_url": PNG, "detail": "auto"},
                {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
                {"type": "input_file", "file_data": PDF, "filename": "a.pdf"},
            ],
        }
    )
    assert body["messages"][0]["content"] == [
        text("What is this?", cache_control={"type": "ephemeral"}),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQ="},
            "title": "a.pdf",
        },
    ]


def test_results_may_hold_parts_and_stand_first_in_their_turn() -> None:
    body = said(
        {"role": "user", "content": "x"},
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call.1",
            "name": "f",
            "arguments": "",
            "status": "completed",
        },
        {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
        {"role": "user", "content": "meanwhile"},
        {
            "type": "function_call_output",
            "call_id": "call.1",
            "output": [part("seen"), {"type": "input_image", "image_url": PNG}],
        },
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "Done"},
    )
    assert body["messages"][1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {}},
        {"type": "tool_use", "id": "c2", "name": "apply_patch", "input": {"input": "*** Begin"}},
    ]
    results = body["messages"][2]["content"]
    assert [block["type"] for block in results] == ["tool_result", "tool_result", "text"]
    assert [block["type"] for block in results[0]["content"]] == ["text", "image"]


def test_an_answer_of_before_goes_back_with_its_refusal_and_without_its_marks() -> None:
    content = [
        {"type": "output_text", "text": "So", "annotations": [{"x": 1}], "logprobs": []},
        {"type": "refusal", "refusal": "no"},
    ]
    found = asked(
        input=[
            {"role": "user", "content": "x"},
            {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": content},
            {"role": "user", "content": "y"},
        ]
    )
    assert found.body["messages"][1]["content"] == [text("So"), text("no")]
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("model", "reasoning", "made"),
    [
        (HAIKU, None, {"thinking": {"type": "disabled"}}),
        (HAIKU, {"effort": "minimal", "summary": "auto"}, {"thinking": {"type": "disabled"}}),
        (HAIKU, {"effort": "high"}, {"output_config": {"effort": "high"}}),
        (
            HAIKU,
            {"effort": "xhigh", "summary": "detailed"},
            {"output_config": {"effort": "xhigh"}, "thinking": {"type": "adaptive", "display": "summarized"}},
        ),
        (OPUS, {"summary": "auto"}, {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (OPUS, {"effort": "none"}, {"output_config": {"effort": "low"}}),
        (OLD, {"effort": "high", "summary": "auto"}, {}),
    ],
)
def test_each_effort_has_its_parameters(model: str, reasoning: Json | None, made: Json) -> None:
    found = asked(model=model, reasoning=reasoning)
    assert {name: found.body[name] for name in ("thinking", "output_config") if name in found.body} == made
    assert found.thinks is (model != OLD and made.get("thinking", {}).get("type") != "disabled")
    assert ("reasoning.effort" in found.ignored) is (model == OLD)


def test_a_shape_is_enforced_or_asked_for() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}}
    shape = {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": schema}}
    sent = asked(text=shape).body["output_config"]["format"]["schema"]
    assert sent["additionalProperties"] is False and "minLength" not in sent["properties"]["a"]
    assert "JSON" in asked(text={"format": {"type": "json_object"}}).body["system"][0]["text"]
    assert "output_config" not in asked(text={"format": {"type": "text"}}).body


def test_a_cache_that_is_named_is_used() -> None:
    assert asked(prompt_cache_key="k").body["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in asked(prompt_cache_key="k", prompt_cache_options={"mode": "explicit"}).body
    marks = [part("x", prompt_cache_breakpoint={"mode": "explicit"}) for _ in range(4)]
    full = said({"role": "user", "content": marks}, prompt_cache_key="k")
    assert "cache_control" not in full
    assert refusal(input=[{"role": "user", "content": [*marks, marks[0]]}])[0] == "cache_control"


def test_the_user_is_a_digest() -> None:
    sent = asked(user="ann@example.com").body["metadata"]["user_id"]
    assert len(sent) == 32 and "ann" not in sent
    body = b'{"model": "claude-sonnet-5-5", "input": "x", "user": "ann@example.com"}'
    assert asked_of(body, MODELS, b"other").body["metadata"]["user_id"] != sent


def test_what_has_no_effect_is_named() -> None:
    found = asked(
        input=[
            {"role": "user", "content": [part("x", zip=1)]},
            {"type": "web_search_call", "id": "w", "status": "completed", "action": {}},
            {"type": "reasoning", "id": "r", "summary": []},
        ],
        temperature=0.5,
        truncation="auto",
        store=True,
        text={"verbosity": "low"},
        include=["file_search_call.results"],
        service_tier="flex",
        client_metadata={"a": "b"},
        max_tool_calls=3,
        stream_options={"include_obfuscation": False},
    )
    assert set(found.ignored) == {
        "client_metadata",
        "include",
        "input[].content[].zip",
        "input[].reasoning",
        "input[].web_search_call",
        "max_tool_calls",
        "service_tier",
        "store",
        "temperature",
        "text.verbosity",
        "truncation",
    }


def test_what_is_the_default_is_not_named() -> None:
    found = asked(
        store=False,
        truncation="disabled",
        temperature=1,
        top_p=1,
        service_tier="auto",
        background=False,
        top_logprobs=0,
        metadata={"a": "b"},
        text={"format": {"type": "text"}, "verbosity": "medium"},
        parallel_tool_calls=True,
        tools=[{**FUNCTION, "strict": False}],
        previous_response_id=None,
        **ENCRYPTED,
    )
    assert found.ignored == ()
    assert found.wanted.seals


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "c"}}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"model": None}, "model"),
        ({"input": ""}, "input"),
        ({"input": 7}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, "text.format.schema"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"id": "x"}]}, "input[0]"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type"),
        ({"input": [{"type": "reasoning", "encrypted_content": "gAAAA"}]}, "input[0].encrypted_content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "video"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
            "input[0].content[0].file_url",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": PNG}]}]},
            "input[0].content",
        ),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    ],
)
def test_what_can_t_be_done_is_refused_by_its_name(fields: Json, path: str) -> None:
    assert refusal(**fields)[0] == path


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"model": "claude-sonnet-5-5", "input": ' + b"[" * 10_000]
)
def test_a_body_that_can_t_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError):
        asked_of(body, MODELS)


def test_thoughts_of_a_model_behind_chat_completions_stay_here() -> None:
    seal = sealed(ChatThought("Let me see", "reasoning", "tiny"))
    found = asked(input=[{"role": "user", "content": "Hi"}, {"type": "reasoning", "encrypted_content": seal}])
    assert found.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert found.ignored == ("input[].reasoning",)


def test_how_closely_an_image_is_looked_at_is_not_known_to_the_messages_api() -> None:
    image = {"type": "input_image", "image_url": PNG}
    for detail, ignored in (("auto", ()), ("low", ("input[].content[].detail",))):
        assert asked(input=[{"role": "user", "content": [{**image, "detail": detail}]}]).ignored == ignored

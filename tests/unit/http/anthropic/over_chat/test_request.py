"""Messages API requests as bodies of chat completions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.catalogue import Api, Catalogue
from satmeter.http.anthropic.over_chat.request import chat_of
from satmeter.http.responses.thoughts import ChatThought, sealed
from satmeter.http.upstreams.served_models import ServedModels
from tests.helpers.chat_answers import MODEL, TINY
from tests.helpers.messages_over_chat import (
    THINKS,
    WEATHER,
    asked,
    assistant,
    chat_messages,
    refusal,
    tool_result,
    tool_use,
    user,
)
from tests.helpers.models import UPSTREAM, served

Json = dict[str, Any]
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PNG_URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
FUNCTION = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": WEATHER["input_schema"],
    },
}


def text(words: str, **fields: Any) -> Json:
    return {"type": "text", "text": words, **fields}


def called(*calls: Json, said: str | None = None) -> Json:
    return {"role": "assistant", "content": said, "tool_calls": list(calls)}


def call(call_id: str = "1", arguments: str = '{"city":"Z"}', name: str = "weather") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_the_call_is_the_body_with_the_limit_at_its_end() -> None:
    found = asked(max_tokens=70, stream=True, temperature=0.5, top_p=0.9, stop_sequences=["END"])
    made = found.call(0)
    assert json.loads(made.body.data) == {
        "model": "tiny-llama",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 70,
    }
    assert json.loads(made.body.lowered(3))["max_tokens"] == 3
    assert (made.model, made.api, made.stream) == (MODEL, Api.OPENAI, True)
    assert (made.prompt_tokens_max or 0) < 2_500
    assert found.ignored == ()


def test_no_longer_answer_is_asked_for_than_the_model_gives() -> None:
    assert asked(replace(TINY, max_output_tokens=50)).call(0).body.max_tokens == 50


def test_the_limit_has_the_name_that_its_upstream_heeds() -> None:
    """The newer models of OpenAI's own servers refuse the older name."""
    entry = replace(TINY, upstreams=("openai",))
    upstream = replace(UPSTREAM, name="openai", api=Api.OPENAI, base_url="https://api.openai.com/v1")
    body = json.dumps({"model": MODEL, "max_tokens": 70, "messages": [user("Hello")]}).encode()
    found = chat_of(body, ServedModels(Catalogue((entry,), (upstream,))), str).call(0)
    assert json.loads(found.body.data)["max_completion_tokens"] == 70 and b'"max_tokens"' not in found.body.data
    assert json.loads(found.body.lowered(3))["max_completion_tokens"] == 3


@pytest.mark.parametrize("system", ["Be brief.\n\nBe kind.", [text("Be brief.", cache_control={}), text("Be kind.")]])
def test_the_system_prompt_comes_first(system: Any) -> None:
    assert chat_messages(user("Hi"), system=system) == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "Hi"},
    ]


def test_instructions_between_turns_go_to_the_system_prompt() -> None:
    found = chat_messages(user("Hi"), {"role": "system", "content": "Be kind."}, assistant("Yes"), system="Be brief.")
    assert [message["role"] for message in found] == ["system", "user", "assistant"]
    assert found[0]["content"] == "Be brief.\n\nBe kind."


def test_turns_keep_their_order_and_an_answer_that_has_begun_its_place() -> None:
    assert chat_messages(user("a"), assistant("b"), user(text("c"), text("d")), assistant("e")) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c\n\nd"},
        {"role": "assistant", "content": "e"},
    ]


def test_images_stand_among_the_text() -> None:
    by_url = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    (found,) = chat_messages(user(text("a"), PNG, by_url))
    assert found["content"] == [
        text("a"),
        PNG_URL,
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    assert asked(messages=[user(PNG)]).call(0).prompt_tokens_max == TINY.context_tokens


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ({"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/"}}, "messages.0.content.0.source.url"),
        ({"type": "image", "source": {"type": "base64", "media_type": "text/html", "data": "A"}}, None),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png;x", "data": "A"}}, None),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A"}},
            "messages.0.content.0.source",
        ),
        ({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, "messages.0.content.0.type"),
        (tool_result(), "messages.0.content.0"),
        ({"type": "hologram"}, "messages.0.content.0.type"),
    ],
)
def test_what_chat_completions_can_t_hold_is_named(block: Json, path: str | None) -> None:
    assert refusal(messages=[user(block)]) == (path or "messages.0.content.0.source")


def test_an_image_needs_a_model_whose_context_is_known() -> None:
    assert refusal(replace(TINY, context_tokens=None), messages=[user(PNG)]) == "messages.0.content.0"


def test_documents_of_text_and_what_a_search_found_are_text() -> None:
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    blocks = {"type": "document", "source": {"type": "content", "content": [text("y"), PNG]}}
    found = {"type": "search_result", "source": "https://a.test", "title": "S", "content": [text("z")]}
    (message,) = chat_messages(user(document, blocks, found))
    assert message["content"] == [text("T"), text("x"), text("y"), PNG_URL, text("S\nhttps://a.test\nz")]


# Tools


def test_calls_and_their_results_know_each_other_by_the_upstreams_own_ids() -> None:
    found = chat_messages(
        user("Weather?"),
        assistant(text("Let me see."), tool_use(city="Z"), tool_use("time", "toolu_2")),
        user(tool_result("12:00", "toolu_2"), tool_result([text("Sunny")]), text("And now?")),
    )
    assert found[1:] == [
        called(call(), call("2", "{}", "time"), said="Let me see."),
        {"role": "tool", "tool_call_id": "2", "content": "12:00"},
        {"role": "tool", "tool_call_id": "1", "content": "Sunny"},
        {"role": "user", "content": "And now?"},
    ]


@pytest.mark.parametrize("first", [True, False])
def test_results_stand_behind_their_calls_wherever_the_user_puts_them(first: bool) -> None:
    blocks = [tool_result(), text("And now?")]
    found = chat_messages(user("Hi"), assistant(tool_use(city="Z")), user(*(blocks if first else blocks[::-1])))
    assert [message["role"] for message in found] == ["user", "assistant", "tool", "user"]


def test_a_failed_tool_says_so_and_an_empty_result_is_one() -> None:
    found = chat_messages(
        user("Hi"),
        assistant(tool_use(), tool_use(call_id="toolu_2")),
        user(tool_result("No such city", is_error=True), {"type": "tool_result", "tool_use_id": "toolu_2"}),
    )
    assert found[2]["content"] == "The tool failed: \n\nNo such city"
    assert found[3] == {"role": "tool", "tool_call_id": "2", "content": ""}


def test_an_image_in_a_result_is_shown_by_the_user() -> None:
    found = chat_messages(user("Hi"), assistant(tool_use()), user(tool_result([text("Look"), PNG])))
    assert found[2]["role"] == "tool" and "Look" in found[2]["content"]
    assert found[3]["role"] == "user" and PNG_URL in found[3]["content"]


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        (None, {}),
        ({"type": "auto"}, {}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "weather"}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}),
        ({"type": "auto", "disable_parallel_tool_use": True}, {"parallel_tool_calls": False}),
    ],
)
def test_tools_are_functions_and_each_choice_has_its_word(choice: Any, fields: Json) -> None:
    found = asked(tools=[WEATHER], **({"tool_choice": choice} if choice else {})).body
    assert found["tools"] == [FUNCTION]
    assert {name: found[name] for name in ("tool_choice", "parallel_tool_calls") if name in found} == fields


def test_a_strict_tool_stays_strict_and_a_bare_one_takes_an_object() -> None:
    bare = {"name": "now", "input_schema": {}, "strict": True, "type": "custom"}
    (tool,) = asked(tools=[bare]).body["tools"]
    assert tool["function"] == {"name": "now", "parameters": {"type": "object"}, "strict": True}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0"),
        ({"tools": [{"type": "code_execution_20260521", "name": "x"}]}, "tools.0.type"),
        ({"tools": [{"name": "x"}]}, "tools.0"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "time"}}, "tool_choice.name"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"speed": "fast"}, "speed"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    ],
)
def test_what_is_not_possible_is_named(fields: Json, path: str) -> None:
    assert refusal(**fields) == path


def test_the_sdk_s_agent_loop_goes_on_without_a_thread() -> None:
    with pytest.raises(RefusedError) as refused:
        asked(thread={"type": "create"})
    assert refused.value.refusal.details["unsupported"] == ["thread"]


# Options


@pytest.mark.parametrize(
    ("fields", "effort", "ignored"),
    [
        ({}, None, ()),
        ({"thinking": {"type": "disabled"}}, None, ()),
        ({"thinking": {"type": "adaptive"}}, None, ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 1_024}}, "low", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, "medium", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 32_000}}, "high", ()),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high", ()),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low", ()),
        ({"output_config": {"effort": "low"}}, None, ("output_config.effort",)),
    ],
)
def test_a_model_thinks_as_hard_as_asked(fields: Json, effort: str | None, ignored: tuple[str, ...]) -> None:
    found = asked(**fields)
    assert (found.body.get("reasoning_effort"), found.ignored) == (effort, ignored)


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_the_shape_of_the_answer_is_held_to(field: str) -> None:
    shape: Any = {"type": "json_schema", "schema": {"type": "object"}}
    fields: Json = {field: {"format": shape} if field == "output_config" else shape}
    found = asked(**fields).body["response_format"]
    assert found == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }


def test_the_user_is_a_digest() -> None:
    assert asked(metadata={"user_id": "anna"}).body["user"] == "hidden-4"


def test_what_has_no_effect_is_told() -> None:
    marked = text("Hello", cache_control={"type": "ephemeral"})
    fields: Json = {"top_k": 5, "service_tier": "auto", "context_management": {"edits": [{"type": "clear_thinking_x"}]}}
    assert asked(messages=[user(marked)], **fields).ignored == (
        "top_k",
        "context_management",
        "messages[].content[].cache_control",
    )


# Thoughts


def test_a_thought_goes_back_to_the_model_that_had_it_and_to_no_other() -> None:
    def thought(signature: str) -> Json:
        return {"type": "thinking", "thinking": "Hm.", "signature": signature}

    own = sealed(ChatThought("", "reasoning_content", MODEL))
    others = [sealed(ChatThought("", "reasoning_content", "another")), "EqQBCgYIARgC", "", "sm1.x"]
    for signature in (own, *others):
        found = chat_messages(
            user("Hi"),
            assistant(thought(signature), {"type": "redacted_thinking", "data": "x"}, tool_use(city="Z")),
            user(tool_result()),
            **THINKS,
        )
        assert found[1] == called(call()) | ({"reasoning_content": "Hm."} if signature == own else {})


@pytest.mark.parametrize("field", ["messages", "tools", "system", "zip"])
def test_a_body_nested_without_end_is_refused(field: str) -> None:
    body = b'{"model":"tiny","max_tokens":5,"messages":[{"role":"user","content":"x"}],"%b":%b}'
    with pytest.raises(RefusedError):
        chat_of(body % (field.encode(), b"[" * 100_000), served(replace(TINY, upstreams=(UPSTREAM.name,))), str)

"""Whole chat completions as responses: each fits OpenAI's own type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.responses.over_chat.answer import response
from satmeter.http.responses.thoughts import ChatThought, opened
from satmeter.http.upstreams.provider_call import UnreadableAnswerError
from tests.helpers.chat_answers import MODEL, USAGE, Json, chat, completion, tool_call
from tests.helpers.responses import AGENTS, FUNCTION, PATCH, fits

AT_S = 1_790_000_000
ID = f"1_{AT_S:x}"
COST: dict[str, int | str] = {"cost_msat": 5, "cost_usd": "0.000001", "balance_msat": 7}
SHOWN: Json = {"reasoning": {"summary": "auto"}}


def whole(request: Json | None = None, *, finish_reason: str | None = "stop", usage: Any = USAGE, **said: Any) -> Json:
    body = completion(finish_reason, usage, **said)
    return fits(json.loads(response(body, chat(**(request or {})).wanted, MODEL, AT_S, COST)))


def test_a_text_is_a_message_and_the_usage_has_its_cost() -> None:
    found = whole(content="Hello")
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}
    assert found["output"] == [
        {"id": f"msg_{ID}_0", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    ]
    assert (found["id"], found["created_at"], found["model"]) == (f"resp_{ID}", AT_S, MODEL)
    assert (found["status"], found["error"], found["incomplete_details"], found["store"]) == (
        "completed",
        None,
        None,
        False,
    )
    assert found["usage"] == {
        "input_tokens": 17,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 6},
        "total_tokens": 37,
        **COST,
    }


def test_calls_come_back_by_the_names_that_the_client_knows() -> None:
    calls = [
        tool_call("weather", '{"city": "Rome"}'),
        tool_call("apply_patch", '{"input": "*** Begin\\n+ü"}'),
        tool_call("agents__close", ""),
        tool_call("agents__tell", '{"input": "hi"}', call_id=""),
        {"id": "", "function": {"name": "of its own", "arguments": {"a": 1}}},
    ]
    found = whole({"tools": [FUNCTION, PATCH, AGENTS]}, finish_reason="tool_calls", content="I look.", tool_calls=calls)
    said, *called = found["output"]
    assert (found["status"], said["content"][0]["text"]) == ("completed", "I look.")
    assert [(call["type"], call["name"], call.get("namespace")) for call in called] == [
        ("function_call", "weather", None),
        ("custom_tool_call", "apply_patch", None),
        ("function_call", "close", "agents"),
        ("custom_tool_call", "tell", "agents"),
        ("function_call", "of its own", None),
    ]
    assert [call.get("arguments", call.get("input")) for call in called] == [
        '{"city": "Rome"}',
        "*** Begin\n+ü",
        "{}",
        "hi",
        '{"a":1}',
    ]
    assert all(call["status"] == "completed" for call in called)
    ids = [call["call_id"] for call in called]
    assert ids[0] == "call_weather" and len(set(ids)) == 5 and all(ids)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_shown_to_whom_asks_and_always_given_back(field: str) -> None:
    said: Json = {field: "Let me see", "content": "x"}
    plain, message = whole(**said)["output"]
    assert (plain["id"], plain["type"], plain["summary"]) == (f"rs_{ID}_0", "reasoning", [])
    # Some upstreams need it back, and few clients ask for it.
    assert opened(plain["encrypted_content"]) == ChatThought("Let me see", field, MODEL)  # type: ignore[arg-type]
    assert message["content"][0]["text"] == "x"
    shown = whole(SHOWN, **said)["output"][0]
    assert shown["summary"] == [{"type": "summary_text", "text": "Let me see"}]


def test_an_answer_with_calls_goes_back_as_it_came() -> None:
    call = tool_call("weather", '{"city": "Rome"}')
    items = whole({"tools": [FUNCTION]}, content="I look.", reasoning_content="Hm", tool_calls=[call])["output"]
    result = {"type": "function_call_output", "call_id": "call_weather", "output": "sunny"}
    body = chat(input=[{"role": "user", "content": "Rome?"}, *items, result]).body
    assert body["messages"][1:] == [
        {"role": "assistant", "content": "I look.", "tool_calls": [call], "reasoning_content": "Hm"},
        {"role": "tool", "tool_call_id": "call_weather", "content": "sunny"},
    ]


@pytest.mark.parametrize(
    ("finish_reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("of a later version", "completed", None),
        (None, "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("model_length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_each_end_has_its_word(finish_reason: str | None, status: str, why: str | None) -> None:
    found = whole(content="x", finish_reason=finish_reason)
    assert (found["status"], (found["incomplete_details"] or {}).get("reason")) == (status, why)
    assert found["output"][0]["status"] == status


def test_only_the_last_call_can_be_cut_off() -> None:
    calls = [tool_call("weather", "{}"), tool_call("weather", '{"city": "Ro', call_id="b")]
    found = whole({"tools": [FUNCTION]}, tool_calls=calls, finish_reason="length")["output"]
    assert [(call["arguments"], call["status"]) for call in found] == [
        ("{}", "completed"),
        ('{"city": "Ro', "incomplete"),
    ]


def test_a_refusal_is_a_part_of_a_message() -> None:
    found = whole(refusal="It is harmful.")
    assert found["output"][0]["content"] == [{"type": "refusal", "refusal": "It is harmful."}]
    assert found["status"] == "completed"


@pytest.mark.parametrize(
    "usage", [None, "many", {}, {"prompt_tokens": "many"}, {"prompt_tokens": 3}, {"total_tokens": -1}]
)
def test_a_usage_that_can_t_be_read_still_has_the_cost(usage: Any) -> None:
    found = whole(content="x", usage=usage)
    assert (found["usage"]["total_tokens"], found["usage"]["cost_msat"]) == (0, 5)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"choices": []}', b'{"error": {}}', b"[" * 100_000])
def test_an_answer_that_is_none_is_not_a_response(body: bytes) -> None:
    with pytest.raises(UnreadableAnswerError):
        response(body, chat().wanted, MODEL, AT_S, COST)

"""Answers of the Messages API as responses, whole: each fits OpenAI's own type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.responses.answer import response
from satmeter.http.upstreams.provider_call import UnreadableAnswerError
from tests.helpers.anthropic_streams import MODEL
from tests.helpers.responses import AGENTS, ENCRYPTED, FUNCTION, PATCH, Json, asked, fits

AT_S = 1_790_000_000
COST: dict[str, int | str] = {"cost_msat": 5, "cost_usd": "0.000001", "balance_msat": 7}
USAGE = {"input_tokens": 10, "output_tokens": 20, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}
THOUGHT: Json = {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"}
REDACTED: Json = {"type": "redacted_thinking", "data": "c2VjcmV0"}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def tool_use(name: str, arguments: Any) -> Json:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": arguments}


def whole(*content: Json, request: Json | None = None, **fields: Any) -> Json:
    shown = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn"}
    body = json.dumps({**shown, "content": list(content), "usage": USAGE, **fields}).encode()
    return fits(json.loads(response(body, asked(**(request or {})).wanted, AT_S, COST)))


def test_a_whole_answer_has_all_that_a_response_has() -> None:
    found = whole(text("Hello, "), text("world"))
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    assert found["output"] == [
        {
            "id": "msg_1_0",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{**part, "text": "Hello, "}, {**part, "text": "world"}],
        }
    ]
    assert (found["id"], found["object"], found["created_at"], found["model"]) == ("resp_1", "response", AT_S, MODEL)
    assert (found["status"], found["error"], found["incomplete_details"], found["store"]) == (
        "completed",
        None,
        None,
        False,
    )
    assert found["usage"] == {
        "input_tokens": 17,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 37,
        **COST,
    }


def test_the_request_is_repeated_with_its_defaults() -> None:
    found = whole(text("x"))
    assert found["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert (found["tools"], found["tool_choice"], found["parallel_tool_calls"]) == ([], "auto", True)
    assert (found["temperature"], found["top_p"], found["truncation"]) == (1.0, 1.0, "disabled")
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    request: Json = {
        "instructions": "Be brief.",
        "tools": [FUNCTION, PATCH, AGENTS, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False,
        "text": {"format": {"type": "json_schema", "name": "shape", "schema": schema}, "verbosity": "low"},
        "reasoning": {"effort": "high", "summary": "auto"},
        "metadata": {"a": "b"},
        "max_output_tokens": 99,
        "user": "ann",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "store": True,
    }
    found = whole(text("x"), request=request)
    assert [tool["type"] for tool in found["tools"]] == ["function", "custom", "namespace"]
    assert found["tools"][0]["strict"] is False
    assert found["text"]["format"]["schema"] == schema and found["text"]["verbosity"] == "low"
    assert found["reasoning"] == {"effort": "high", "summary": "auto"}
    for name in ("instructions", "tool_choice", "parallel_tool_calls", "metadata", "max_output_tokens", "user"):
        assert found[name] == request[name]
    assert found["store"] is False


def test_calls_come_back_by_the_names_that_the_client_knows() -> None:
    tools = {"tools": [FUNCTION, PATCH, AGENTS]}
    found = whole(
        text("I look."),
        tool_use("weather", {"city": "Rome"}),
        tool_use("apply_patch", {"input": "*** Begin\n+ü\n"}),
        tool_use("agents__close", {}),
        tool_use("agents__tell", {"input": "hi"}),
        request=tools,
        stop_reason="tool_use",
    )
    said, *calls = found["output"]
    assert (found["status"], said["content"][0]["text"]) == ("completed", "I look.")
    assert [call["id"] for call in calls] == ["fc_1_1", "ctc_1_2", "fc_1_3", "ctc_1_4"]
    heads = [(call["type"], call["call_id"], call["name"], call.get("namespace")) for call in calls]
    assert heads == [
        ("function_call", "toolu_weather", "weather", None),
        ("custom_tool_call", "toolu_apply_patch", "apply_patch", None),
        ("function_call", "toolu_agents__close", "close", "agents"),
        ("custom_tool_call", "toolu_agents__tell", "tell", "agents"),
    ]
    assert json.loads(calls[0]["arguments"]) == {"city": "Rome"}
    assert (calls[1]["input"], calls[2]["arguments"], calls[3]["input"]) == ("*** Begin\n+ü\n", "{}", "hi")


def test_thoughts_are_shown_and_sealed_only_where_they_are_asked_for() -> None:
    plain = whole(THOUGHT, text("x"))["output"][0]
    assert plain == {"id": "rs_1_0", "type": "reasoning", "summary": []}
    shown = whole(THOUGHT, text("x"), request={"reasoning": {"summary": "auto"}})["output"][0]
    assert shown["summary"] == [{"type": "summary_text", "text": "Let me see"}] and "encrypted_content" not in shown
    sealed = whole(THOUGHT, REDACTED, text("x"), request=ENCRYPTED)["output"]
    assert [item["type"] for item in sealed] == ["reasoning", "reasoning", "message"]
    body = asked(input=[*sealed, {"role": "user", "content": "Go on"}]).body
    assert body["messages"][0] == {"role": "assistant", "content": [THOUGHT, REDACTED, text("x")]}


@pytest.mark.parametrize(
    ("stop_reason", "status", "why"),
    [
        ("end_turn", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_use", "completed", None),
        ("of a later version", "completed", None),
        (None, "completed", None),
        ("max_tokens", "incomplete", "max_output_tokens"),
        ("model_context_window_exceeded", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_each_end_has_its_word(stop_reason: str | None, status: str, why: str | None) -> None:
    found = whole(text("x"), stop_reason=stop_reason)
    assert (found["status"], (found["incomplete_details"] or {}).get("reason")) == (status, why)
    assert found["output"][0]["status"] == status


def test_a_refusal_says_why() -> None:
    found = whole(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "It is harmful."})
    assert found["output"][-1]["content"] == [{"type": "refusal", "refusal": "It is harmful."}]
    assert whole(stop_reason="refusal")["output"][-1]["content"][0]["refusal"]


def test_blocks_and_usage_that_can_t_be_read_are_passed_over() -> None:
    found = whole({"type": "server_tool_use", "id": "x"}, text("x"), usage={"input_tokens": "many"}, stop_details=7)
    assert [item["type"] for item in found["output"]] == ["message"]
    assert found["usage"]["total_tokens"] == 0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"id": 1}', b"[" * 100_000])
def test_an_answer_that_is_none_is_not_a_response(body: bytes) -> None:
    with pytest.raises(UnreadableAnswerError):
        response(body, asked().wanted, AT_S, COST)

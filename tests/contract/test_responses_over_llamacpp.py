"""Responses over a real llama.cpp server: each answer fits OpenAI's own types, and has the tokens that it counted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from satmeter.http.responses.over_chat.answer import response
from satmeter.http.responses.over_chat.stream import ChatResponseStream
from satmeter.http.translation.provider_errors import of_chat
from tests.helpers.chat_answers import MODEL, Json, chat
from tests.helpers.patience import PATIENCE_S
from tests.helpers.responses import AGENTS, FUNCTION, PATCH, events_in, fits
from tests.llamacpp.server import CONTEXT_TOKENS, SENTENCE, LlamaCpp

AT_S = 1_790_000_000
STREAMED = pytest.mark.parametrize("stream", [False, True])
SHAPE: Json = {
    "type": "json_schema",
    "name": "shape",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"count": {"type": "integer"}},
        "required": ["count"],
        "additionalProperties": False,
    },
}


def post(llama: LlamaCpp, body: bytes) -> httpx.Response:
    return httpx.post(
        f"{llama.base_url}/chat/completions",
        content=body,
        headers={"content-type": "application/json"},
        timeout=PATIENCE_S,
        trust_env=False,
    )


def asked(llama: LlamaCpp, *, stream: bool, **fields: Any) -> Json:
    """The response to a request with these fields."""
    request = chat(**fields, stream=stream)
    call = request.call(200)
    got = post(llama, call.body.data)
    assert got.status_code == 200, got.text
    if stream:
        made = ChatResponseStream(request.wanted, MODEL, AT_S, "req_1")
        found: Json = events_in(made.read(got.content) + made.end({}))[-1]["response"]
    else:
        found = json.loads(response(got.content, request.wanted, MODEL, AT_S, {}))
    assert found["usage"]["input_tokens"] <= (call.prompt_tokens_max or 0)
    return fits(found)


@STREAMED
def test_a_text_with_the_tokens_that_the_server_counted(llama: LlamaCpp, stream: bool) -> None:
    found = asked(llama, stream=stream, input="Hello there", instructions="Be brief.")
    assert (found["status"], found["output"][0]["content"][0]["text"]) == ("completed", SENTENCE)
    usage = found["usage"]
    # The end token is billed, too.
    assert (usage["output_tokens"], usage["total_tokens"]) == (16, usage["input_tokens"] + 16)
    assert usage["input_tokens"] > usage["input_tokens_details"]["cached_tokens"] >= 0


@STREAMED
def test_an_answer_that_is_cut_off_is_incomplete(llama: LlamaCpp, stream: bool) -> None:
    found = asked(llama, stream=stream, input="Hello there", max_output_tokens=5)
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert found["usage"]["output_tokens"] == 5


@STREAMED
def test_a_call_and_its_result_go_all_the_way_round(llama: LlamaCpp, stream: bool) -> None:
    tools: Json = {"tools": [FUNCTION, PATCH, AGENTS]}
    found = asked(llama, stream=stream, input="How is the weather?", tool_choice="required", **tools)
    calls = [item for item in found["output"] if item["type"].endswith("_call")]
    assert calls and all(call["call_id"] and call["status"] == "completed" for call in calls)
    results = [
        {"type": f"{call['type']}_output", "call_id": call["call_id"], "output": "It is sunny."} for call in calls
    ]
    history = [{"role": "user", "content": "How is the weather?"}, *found["output"], *results]
    again = asked(llama, stream=stream, input=history, **tools)
    assert again["output"][0]["content"][0]["text"] == SENTENCE


@STREAMED
def test_a_shape_is_kept_to(llama: LlamaCpp, stream: bool) -> None:
    found = asked(llama, stream=stream, input="Count.", text={"format": SHAPE})
    assert type(json.loads(found["output"][0]["content"][0]["text"])["count"]) is int


@STREAMED
def test_instructions_between_turns_and_turns_of_one_role_are_taken(llama: LlamaCpp, stream: bool) -> None:
    items: list[Json] = [
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"role": "assistant", "content": "Yes?"},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Go on"},
    ]
    assert asked(llama, stream=stream, input=items)["status"] == "completed"


def test_a_prompt_that_is_too_long_is_told_in_openai_s_words(llama: LlamaCpp) -> None:
    refused = post(llama, chat(input="word " * 4_000).call(9).body.data)
    error = of_chat(refused.status_code, refused.content, "req_1")["error"]
    assert (refused.status_code, error["code"]) == (400, "context_length_exceeded")
    assert f"maximum context length is {CONTEXT_TOKENS} tokens" in error["message"]

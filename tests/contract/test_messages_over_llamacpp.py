"""The Messages API over a real llama.cpp server: Anthropic's SDK reads each answer, with the tokens that it counted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from satmeter.http.anthropic.over_chat.answer import MessageStream, message
from satmeter.http.anthropic.over_chat.dialect import MessagesOverChat
from tests.helpers.messages_over_chat import (
    CHARGED,
    COST,
    WEATHER,
    asked,
    assistant,
    events_in,
    gathered,
    tool_result,
    user,
)
from tests.helpers.patience import PATIENCE_S
from tests.llamacpp.server import CONTEXT_TOKENS, SENTENCE, LlamaCpp

Json = dict[str, Any]
STREAMED = pytest.mark.parametrize("stream", [False, True])


def post(llama: LlamaCpp, body: bytes) -> httpx.Response:
    return httpx.post(
        f"{llama.base_url}/chat/completions",
        content=body,
        headers={"content-type": "application/json"},
        timeout=PATIENCE_S,
        trust_env=False,
    )


def answered(llama: LlamaCpp, *, stream: bool, **fields: Any) -> Json:
    """The message that answers a request with these fields."""
    request = asked(**{"max_tokens": 200, **fields}, stream=stream)
    call = request.call(0)
    got = post(llama, call.body.data)
    assert got.status_code == 200, got.text
    if stream:
        made = MessageStream(request)
        found: Json = gathered(events_in(made.read(got.content) + made.end(CHARGED, COST))).to_dict()
    else:
        found = json.loads(message(got.content, request, CHARGED, COST))
    usage = found["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] <= (call.prompt_tokens_max or 0)
    return found


@STREAMED
def test_a_text_with_the_tokens_that_the_server_counted(llama: LlamaCpp, stream: bool) -> None:
    found = answered(llama, stream=stream, system="Be brief.")
    assert (found["content"][0]["text"], found["stop_reason"]) == (SENTENCE, "end_turn")
    # The end token is billed, too.
    assert found["usage"]["output_tokens"] == 16 and found["usage"]["input_tokens"] > 0


@STREAMED
def test_an_answer_that_is_cut_off_says_so(llama: LlamaCpp, stream: bool) -> None:
    found = answered(llama, stream=stream, max_tokens=5)
    assert (found["stop_reason"], found["usage"]["output_tokens"]) == ("max_tokens", 5)


@STREAMED
def test_a_call_and_its_result_go_all_the_way_round(llama: LlamaCpp, stream: bool) -> None:
    found = answered(llama, stream=stream, tools=[WEATHER], tool_choice={"type": "any"})
    calls = [block for block in found["content"] if block["type"] == "tool_use"]
    assert found["stop_reason"] == "tool_use" and calls
    results = [tool_result("It is sunny.", call["id"]) for call in calls]
    turns = [user("How is the weather?"), assistant(*found["content"]), user(*results, {"type": "text", "text": "So?"})]
    again = answered(llama, stream=stream, messages=turns, tools=[WEATHER])
    assert again["content"][0]["text"] == SENTENCE


@STREAMED
def test_instructions_between_turns_and_turns_of_one_role_are_taken(llama: LlamaCpp, stream: bool) -> None:
    turns = [user("a"), user("b"), {"role": "system", "content": "Be kind."}, assistant("c"), user("d")]
    assert answered(llama, stream=stream, messages=turns)["stop_reason"] == "end_turn"


@STREAMED
def test_a_stop_sequence_ends_the_answer(llama: LlamaCpp, stream: bool) -> None:
    found = answered(llama, stream=stream, stop_sequences=["every"])
    assert (found["stop_reason"], found["content"][0]["text"]) == ("end_turn", SENTENCE.partition("every")[0])


def test_a_prompt_that_is_too_long_is_told_in_anthropic_s_words(llama: LlamaCpp) -> None:
    refused = post(llama, asked(messages=[user("word " * 4_000)]).call(0).body.data)
    told = MessagesOverChat().error(refused.status_code, refused.content, "req_1")
    assert (refused.status_code, told["error"]["type"]) == (400, "invalid_request_error")
    assert told["error"]["message"].startswith("prompt is too long: ")
    assert f" > {CONTEXT_TOKENS} maximum." in told["error"]["message"]

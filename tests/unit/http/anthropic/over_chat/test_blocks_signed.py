"""Signatures of an upstream go to clients of the Messages API in their thoughts, and back to it with the next call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.responses.thoughts import ChatThought, sealed
from tests.helpers.chat_answers import MODEL, completion, tool_call
from tests.helpers.messages_over_chat import THINKS, assistant, chat_messages, gathered, streamed, user, whole
from tests.helpers.messages_over_chat import tool_result as result
from tests.helpers.signed_answers import ANSWERS, GOOGLE, SignedAnswer, sent_back

OMITTED = {"thinking": {"type": "adaptive", "display": "omitted"}}
KINDS: Any = {"shown": THINKS, "omitted": OMITTED, "not asked for": {}}


def turn_of(answer: SignedAnswer, *, streams: bool, **fields: Any) -> Any:
    """Return the message as a client sends it back."""
    message = gathered(streamed(answer.stream, 7, **fields)) if streams else whole(answer.body, **fields)
    return {"role": "assistant", "content": [block.to_dict() for block in message.content]}


def next_messages(turn: Any, *others: Any) -> Any:
    """Return the messages of the request after the model's calls."""
    ids = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
    return chat_messages(user("Hi"), turn, user(*(result(call_id=call_id) for call_id in ids)), *others)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_the_upstream_gets_back_what_it_signed(answer: SignedAnswer, fields: Any, streams: bool) -> None:
    turn = turn_of(answer, streams=streams, **fields)
    sent = next_messages(turn)[1]
    assert sent_back(sent) == (answer.details, answer.calls)
    assert (sent["content"] or "") == (answer.whole.get("content") or "")
    assert not answer.details or not {"reasoning", "reasoning_content"} & set(sent)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_thoughts_are_shown_only_to_who_asked_for_them(answer: SignedAnswer, streams: bool) -> None:
    for name, fields in KINDS.items():
        kinds = {block["type"]: block for block in turn_of(answer, streams=streams, **fields)["content"]}
        assert ("thinking" in kinds, "redacted_thinking" in kinds) == (bool(fields), not fields)
        if fields:
            shown = answer.whole.get("reasoning", "") if name == "shown" else ""
            assert kinds["thinking"]["thinking"] in {shown, ""} and kinds["thinking"]["signature"]


def test_signatures_of_calls_go_back_always_and_details_until_the_user_says_more() -> None:
    more = assistant("Sunny."), user("And now?")
    gemini = next_messages(turn_of(ANSWERS["gemini"], streams=False), *more)[1]
    assert gemini["tool_calls"][0]["extra_content"] == GOOGLE["extra_content"]
    claude = next_messages(turn_of(ANSWERS["claude over openrouter"], streams=False, **THINKS), *more)[1]
    assert "reasoning_details" not in claude


def test_what_another_model_signed_or_a_client_made_up_stays_here() -> None:
    turn = turn_of(ANSWERS["gemini"], streams=False)
    forged = ChatThought("", "", MODEL, [], {"c1": {"function": {"name": "other"}, "index": 7}})
    for data in (sealed(ChatThought("", "", "another", [], {"c1": GOOGLE})), "EqQB", sealed(forged)):
        turn["content"] = [block for block in turn["content"] if block["type"] != "redacted_thinking"]
        turn["content"].insert(1, {"type": "redacted_thinking", "data": data})
        call = next_messages(turn)[1]["tool_calls"][0]
        assert set(call) == {"id", "type", "function"} and call["function"]["name"] == "weather"


def test_an_answer_that_is_not_signed_has_no_thought_that_was_not_asked_for() -> None:
    body = completion("tool_calls", reasoning_content="Hm.", tool_calls=[tool_call("weather", "{}")])
    assert [block.type for block in whole(body).content] == ["tool_use"]
    # Nor does a text, whose upstream wants nothing back.
    told = json.loads(ANSWERS["claude over openrouter"].body)
    del told["choices"][0]["message"]["tool_calls"]
    said = json.dumps(told).replace('"content": null', '"content": "Hi"').encode()
    assert [block.type for block in whole(said).content] == ["text"]

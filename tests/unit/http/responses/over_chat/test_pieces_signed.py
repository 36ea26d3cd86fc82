"""Signatures of an upstream go to clients of the Responses API in their thoughts, and back to it with the next call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.responses.over_chat.answer import response
from satmeter.http.responses.over_chat.stream import ChatResponseStream
from tests.helpers.chat_answers import MODEL, chat
from tests.helpers.responses import FUNCTION, events_in, fits
from tests.helpers.signed_answers import ANSWERS, SignedAnswer, sent_back

AT_S = 1_790_000_000
TOOLS: Any = {"tools": [FUNCTION]}


def output_of(answer: SignedAnswer, *, streams: bool, **fields: Any) -> Any:
    """Return the items of the answer, which fit OpenAI's own types."""
    wanted = chat(**TOOLS, **fields).wanted
    if not streams:
        return fits(json.loads(response(answer.body, wanted, MODEL, AT_S, {})))["output"]
    made, data = ChatResponseStream(wanted, MODEL, AT_S, "req_1"), answer.stream
    sent = b"".join(made.read(data[at : at + 7]) for at in range(0, len(data), 7))
    return fits(events_in(sent + made.end({}))[-1]["response"])["output"]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("fields", [{}, {"reasoning": {"summary": "auto"}}])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_the_upstream_gets_back_what_it_signed(answer: SignedAnswer, fields: Any, streams: bool) -> None:
    items = output_of(answer, streams=streams, **fields)
    thoughts = [item for item in items if item["type"] == "reasoning"]
    assert thoughts and all(item["encrypted_content"] for item in thoughts)
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "sunny"}
        for item in items
        if item["type"] == "function_call"
    ]
    messages = chat(input=[{"role": "user", "content": "Hi"}, *items, *results], **TOOLS).body["messages"]
    assert sent_back(messages[1]) == (answer.details, answer.calls)
    assert [message["role"] for message in messages[2:]] == ["tool"] * len(answer.calls)
    shown = "".join(part["text"] for item in thoughts for part in item["summary"])
    assert shown == (answer.whole.get("reasoning", "") if fields else "")

"""Answers of chat completions with what their upstreams sign, and want back: whole, and as streams.

The shapes are those of Google's OpenAI API (Gemini), of LiteLLM's, and of OpenRouter's for models of Anthropic, OpenAI
and Google.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.helpers.chat_answers import Json, chat_sse, chunk, completion, counted, tool_call

ROME = '{"city":"Rome"}'
GOOGLE: Json = {"extra_content": {"google": {"thought_signature": "CiQB0e2Kb3=="}}}
LITELLM: Json = {"provider_specific_fields": {"thought_signature": "CiQB0e2Kb3=="}}
TEXT: Json = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
SIGNED_TEXT: Json = {**TEXT, "text": "Let me look.", "signature": "EqQBCgIYAhIM"}
SUMMARY: Json = {"type": "reasoning.summary", "summary": "Looks.", "format": "openai-responses-v1", "index": 0}
ENCRYPTED: Json = {
    "type": "reasoning.encrypted", "data": "gAAAAABo", "id": "rs_1", "format": "openai-responses-v1", "index": 1
}  # fmt: skip
OF_CALL: Json = {
    "type": "reasoning.encrypted", "data": "Ci8B", "id": "c1", "format": "google-gemini-v1", "index": 0
}  # fmt: skip


@dataclass(frozen=True)
class SignedAnswer:
    """An answer that ends in calls, and what goes back with it: the details, and the calls with their members."""

    whole: Json
    chunks: list[Json]
    details: list[Json] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """The whole answer."""
        return completion("tool_calls", **self.whole)

    @property
    def stream(self) -> bytes:
        """Stream of the same answer."""
        return chat_sse(*self.chunks, chunk("tool_calls"), counted())


def _call(signed: Json | None = None, call_id: str = "c1") -> Json:
    return tool_call("weather", ROME, call_id, **(signed or {}))


def _piece(number: int, call: Json) -> Json:
    return chunk(tool_calls=[{"index": number, **call}])


def _gemini(signed: Json) -> SignedAnswer:
    """Return two calls of which the first is signed, and a text before them."""
    calls = [_call(signed), _call(call_id="c2")]
    pieces = [chunk(role="assistant", content="I look."), *(_piece(at, call) for at, call in enumerate(calls))]
    return SignedAnswer({"content": "I look.", "tool_calls": calls}, pieces, calls=calls)


ANSWERS = {
    "gemini": _gemini(GOOGLE),
    "gemini over litellm": _gemini(LITELLM),
    "claude over openrouter": SignedAnswer(
        {"reasoning": "Let me look.", "reasoning_details": [SIGNED_TEXT], "tool_calls": [_call()]},
        [
            chunk(role="assistant", reasoning="Let me ", reasoning_details=[{**TEXT, "text": "Let me "}]),
            chunk(reasoning="look.", reasoning_details=[{**TEXT, "text": "look."}]),
            chunk(reasoning=None, reasoning_details=[{**TEXT, "signature": "EqQBCgIYAhIM"}]),
            _piece(0, tool_call("weather", "", "c1")),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": ROME}}]),
        ],
        [SIGNED_TEXT],
        [_call()],
    ),
    "gpt over openrouter": SignedAnswer(
        {
            "reasoning": "Looks.",
            "content": "I look.",
            "reasoning_details": [SUMMARY, ENCRYPTED],
            "tool_calls": [_call()],
        },
        [
            chunk(reasoning="Loo", reasoning_details=[{**SUMMARY, "summary": "Loo"}]),
            chunk(reasoning="ks.", reasoning_details=[{**SUMMARY, "summary": "ks."}]),
            chunk(content="I look."),
            chunk(content=None, reasoning_details=[ENCRYPTED]),
            _piece(0, _call()),
        ],
        [SUMMARY, ENCRYPTED],
        [_call()],
    ),
    "gemini over openrouter, signed behind its call": SignedAnswer(
        {"content": None, "reasoning_details": [OF_CALL], "tool_calls": [_call()]},
        [_piece(0, _call()), chunk(content="", reasoning_details=[OF_CALL])],
        [OF_CALL],
        [_call()],
    ),
    "a call that is signed by a later piece": SignedAnswer(
        {"tool_calls": [_call(GOOGLE)]},
        [_piece(0, _call()), chunk(tool_calls=[{"index": 0, "function": {"arguments": ""}, **GOOGLE}])],
        calls=[_call(GOOGLE)],
    ),
}


def sent_back(message: Json) -> tuple[list[Json], list[Json]]:
    """Return the details and the calls of the model's message in a next request."""
    calls = [{**call, "function": {**call["function"]}} for call in message["tool_calls"]]
    for call in calls:
        call["function"]["arguments"] = json.dumps(json.loads(call["function"]["arguments"]), separators=(",", ":"))
    return message.get("reasoning_details", []), calls

"""Answers of upstreams in both APIs with all that they may hold, as seeds of the fuzzing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.mutations import broken, changed, written
from tests.helpers import chat_upstream as chat
from tests.helpers.anthropic_streams import EVERY_KIND, FIRST_USAGE, STOP, WHOLE, block, change, delta, error, start

Json = dict[str, Any]
USAGE: Json = {
    **FIRST_USAGE,
    "output_tokens": 20,
    "service_tier": "standard",
    "inference_geo": "us",
    "server_tool_use": {"web_search_requests": 2},
    "iterations": [{"type": "message", "input_tokens": 3}, {"type": "compaction", "output_tokens": 4}],
    "output_tokens_details": {"thinking_tokens": 5},
}
BLOCKS: list[Json] = [
    {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "c2VjcmV0"},
    {"type": "text", "text": "Héllo 🌍", "citations": [{"type": "char_location", "cited_text": "x"}]},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}, "caller": {"type": "direct"}},
    {"type": "tool_use", "id": "toolu_2", "name": "apply_patch", "input": {"input": "a\nb"}},
]


def _message(content: list[Json], **fields: Any) -> Json:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "stop_sequence": None}
    return {**head, "content": content, "stop_reason": "end_turn", "usage": USAGE, **fields}


VERDICT = '{"reason": "Fine.", "decision": "accept", "size": "small"}'
MESSAGES: Sequence[Json] = (
    _message(BLOCKS, stop_reason="tool_use"),
    _message([{"type": "text", "text": VERDICT}]),
    _message([], stop_reason="refusal", stop_details={"type": "refusal", "explanation": "No.", "category": "x"}),
    _message(BLOCKS[2:3], stop_reason="stop_sequence", stop_sequence="END"),
    {"data": [{"id": "claude-sonnet-5-5"}], "has_more": False},
    {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}},
    {"input_tokens": 17},
)
STREAMS: Sequence[list[Json]] = (
    list(WHOLE),
    list(EVERY_KIND),
    [start(USAGE), block(), delta("Hi"), change(usage={"output_tokens": 5, "iterations": USAGE["iterations"]}), STOP],
    [start({}), block(), delta("Hi"), error("overloaded_error")],
    [error("invalid_request_error"), start(), change("refusal"), STOP],
)
CHAT_USAGE: Json = {
    **chat.USAGE,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 6},
    "cache_creation": {"ephemeral_1h_input_tokens": 1},
}
CALLS: list[Json] = [
    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Z"}'}},
    {"index": 1, "id": "call_2", "type": "function", "function": {"name": "apply_patch", "arguments": {"input": "x"}}},
]
CHAT_MESSAGES: Sequence[Json] = (
    chat.message(usage=CHAT_USAGE, reasoning_content="Hm", tool_calls=CALLS, finish="tool_calls", service_tier="flex"),
    chat.message([{"type": "text", "text": "Hi"}, {"type": "thinking", "thinking": [{"type": "text", "text": "H"}]}]),  # type: ignore[arg-type]
    chat.message(None, refusal="No.", finish="content_filter"),
    chat.message(VERDICT),
    {"error": {"message": "Too long", "type": "invalid_request_error", "code": "context_length_exceeded"}},
    {"object": "error", "message": "Too long", "code": 400},
    {"error": {"message": "Busy", "code": "429"}},
)
CHAT_STREAMS: Sequence[list[Any]] = (
    list(chat.WHOLE_STREAM),
    [
        chat.chunk(chat.choice(role="assistant", reasoning="Hm")),
        chat.chunk(chat.choice("Hi"), chat.choice("Ho", index=1)),
        chat.chunk(chat.choice(tool_calls=CALLS)),
        chat.chunk(chat.choice(tool_calls=[{"index": 0, "function": {"arguments": "x"}}])),
        chat.chunk(chat.choice(finish="tool_calls"), chat.choice(index=1, finish="stop")),
        chat.chunk(usage=CHAT_USAGE, service_tier="priority"),
        chat.chunk(usage=CHAT_USAGE),
        chat.DONE,
    ],
    [
        chat.chunk(chat.choice("Hi"), usage=CHAT_USAGE, x_groq={"usage": chat.USAGE}),
        chat.chunk(chat.choice(finish="length"), usage={**CHAT_USAGE, "completion_tokens": 17}),
        chat.DONE,
    ],
    [chat.chunk(chat.choice("Hi")), {"error": {"message": "Broken", "code": 500}}],
    [{"error": {"message": "Too long", "type": "invalid_request_error"}}],
    [chat.message()],
)


@st.composite
def events(draw: st.DrawFn, seeds: Sequence[list[Any]]) -> bytes:
    """Draw a stream: changed events as they are sent, with any line breaks, and sometimes with some bytes changed."""
    newline = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])).encode()
    named = draw(st.booleans())
    made = draw(changed(seeds))
    sent = b""
    for event in made if isinstance(made, list) else [made]:
        if named and isinstance(event, dict) and isinstance(event.get("type"), str):
            sent += b"event: " + event["type"].encode(errors="replace") + newline
        data = b"[DONE]" if event == chat.DONE else written(draw, event)
        sent += b"data:" + draw(st.sampled_from([b" ", b""])) + data + newline + newline
    return draw(broken(sent)) if draw(st.integers(0, 5)) == 0 else sent

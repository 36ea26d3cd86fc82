"""Translation of a Messages API answer to a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.usage import Counts, counts_of
from ..translation.answer_ids import bare_id
from ..translation.message import message_of, refusal, tokens_of

_FINISH_REASONS: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def completion(body: bytes, created_s: int, cost: Mapping[str, int | str]) -> bytes:
    """Return the whole completion. `created_s` is in seconds since the epoch, `cost` goes into its usage.

    Raises `UnreadableAnswerError`.
    """
    message = message_of(body)
    calls = [
        tool_call(block.id, block.name, bytes(block.input).decode(errors="replace"))
        for block in message.content
        if block.type == "tool_use"
    ]
    text = "".join(block.text or "" for block in message.content if block.type == "text")
    said: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": refusal(message.stop_reason, message.stop_details),
    }
    if calls:
        said["tool_calls"] = calls
    return msgspec.json.encode(
        {
            "id": completion_id(message.id),
            "object": "chat.completion",
            "created": created_s,
            "model": message.model,
            "choices": [
                {"index": 0, "message": said, "logprobs": None, "finish_reason": finish_reason(message.stop_reason)}
            ],
            "usage": {**usage(counts_of(message.usage)), **cost},
        }
    )


def completion_id(message_id: str) -> str:
    """Derive the completion's id from the message's, so that a repeated answer has the same one."""
    return f"chatcmpl-{bare_id(message_id)}"


def tool_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """Return a call of a function."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def finish_reason(stop_reason: str | None) -> str:
    """Return OpenAI's finish reason for a stop reason."""
    return _FINISH_REASONS.get(stop_reason or "", "stop")


def usage(counted: Counts) -> dict[str, Any]:
    """Return OpenAI's usage, whose prompt tokens include cache reads and writes."""
    found = tokens_of(counted)
    return {
        "prompt_tokens": found.prompt,
        "completion_tokens": found.output,
        "total_tokens": found.prompt + found.output,
        "prompt_tokens_details": {"cached_tokens": found.read, "cache_write_tokens": found.written},
        "completion_tokens_details": {"reasoning_tokens": found.thoughts},
    }

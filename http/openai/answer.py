"""Translation of a Messages API answer to a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.usage import Counts, counts_of, tokens, usage_of

_FINISH_REASONS: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_NO_EXPLANATION: Final = "The model declined to answer this."


class UnreadableAnswerError(Exception):
    """A provider's answer that is not one of the Messages API."""


class StopDetails(msgspec.Struct, frozen=True):
    """The reason why the model declined, if it gives one."""

    explanation: str | None = None


class _Block(msgspec.Struct, frozen=True):
    type: str
    text: Any = None
    id: Any = None
    name: Any = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Message(msgspec.Struct, frozen=True):
    """A message, of which only the blocks are certain: what has blocks is charged, and so must be delivered."""

    content: list[_Block]
    id: Any = None
    model: Any = None
    stop_reason: Any = None
    stop_details: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")


def completion(body: bytes, created_s: int, cost: Mapping[str, int | str]) -> bytes:
    """Return the whole completion. `created_s` is in seconds since the epoch, `cost` goes into its usage.

    Raises `UnreadableAnswerError`.
    """
    try:
        message = msgspec.json.decode(body, type=_Message)
    except (ValueError, RecursionError):
        raise UnreadableAnswerError from None
    calls = [
        tool_call(_text(block.id), _text(block.name), bytes(block.input).decode())
        for block in message.content
        if block.type == "tool_use"
    ]
    text = "".join(_text(block.text) for block in message.content if block.type == "text")
    stop_reason = _text(message.stop_reason)
    said: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": refusal(stop_reason, _details(message.stop_details)),
    }
    if calls:
        said["tool_calls"] = calls
    return msgspec.json.encode(
        {
            "id": completion_id(_text(message.id)),
            "object": "chat.completion",
            "created": created_s,
            "model": _text(message.model),
            "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": finish_reason(stop_reason)}],
            "usage": {**usage(counts_of(message.usage)), **cost},
        }
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _details(raw: msgspec.Raw) -> StopDetails | None:
    try:
        return msgspec.json.decode(raw, type=StopDetails | None)
    except ValueError:
        return None


def completion_id(message_id: str) -> str:
    """Derive the completion's id from the message's, so that a repeated answer has the same one."""
    return f"chatcmpl-{message_id.removeprefix('msg_')}"


def tool_call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    """Return a call of a function."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def finish_reason(stop_reason: str | None) -> str:
    """Return OpenAI's finish reason for a stop reason."""
    return _FINISH_REASONS.get(stop_reason or "", "stop")


def refusal(stop_reason: str | None, details: StopDetails | None) -> str | None:
    """Return the sentence with which the model declined; None if it didn't."""
    if stop_reason != "refusal":
        return None
    return (details.explanation if details is not None else None) or _NO_EXPLANATION


def usage(counted: Counts) -> dict[str, Any]:
    """Return OpenAI's usage, whose prompt tokens include cache reads and writes."""
    found = usage_of(counted, 0)
    read = found.cache_read_tokens if found else _count(counted, "cache_read_input_tokens")
    written = found.cache_write_tokens if found else _count(counted, "cache_creation_input_tokens")
    prompt = _count(counted, "input_tokens") + read + written
    output = _count(counted, "output_tokens")
    details = counted.get("output_tokens_details")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {
            "reasoning_tokens": _count(details, "thinking_tokens") if isinstance(details, dict) else 0
        },
    }


def _count(counted: Counts, name: str) -> int:
    return tokens(counted.get(name)) or 0

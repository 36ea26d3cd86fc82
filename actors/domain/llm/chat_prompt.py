"""Estimate of the tokens of a chat completions prompt, for upstreams that don't count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from .token_estimate import estimated_tokens

# The frame of a message, and of the answer's beginning, in the templates of OpenAI's, Qwen's and Llama's models.
_MESSAGE_TOKENS: Final = 4
# An image of middle size; models differ by a factor of ten.
_IMAGE_TOKENS: Final = 1_000
_MEDIA: Final = frozenset({"image_url", "video_url", "file"})


class PromptEstimate(NamedTuple):
    """Estimated tokens of a prompt; `media` are the images and files in it, of which no text or byte says much."""

    tokens: int
    media: int


def estimated_prompt(body: Mapping[str, Any], model: str) -> PromptEstimate:
    """Estimate the prompt's tokens of a body that was checked, for a model of this name."""
    messages = body["messages"]
    texts, media = [], 0
    for message in messages:
        for name, value in message.items():
            if name in ("role", "tool_call_id"):
                continue
            if isinstance(value, str):
                texts.append(value)
            elif name == "tool_calls":
                texts += _called(value)
            elif isinstance(value, list):
                texts += [part["text"] for part in value if isinstance(part.get("text"), str)]
                media += sum(part.get("type") in _MEDIA for part in value)
    if tools := body.get("tools"):
        texts.append(msgspec.json.encode(tools).decode())
    counted = estimated_tokens("\n".join(texts), model) if any(texts) else 0
    return PromptEstimate(counted + _MESSAGE_TOKENS * (len(messages) + 1) + _IMAGE_TOKENS * media, media)


def estimated_body(data: bytes, model: str) -> PromptEstimate | None:
    """Estimate the prompt's tokens of a body as it was sent; None for one that is not of chat completions."""
    try:
        return estimated_prompt(msgspec.json.decode(data), model)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _called(calls: Any) -> Iterator[str]:
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function")
        if isinstance(function, dict):
            yield f"{function.get('name')} {function.get('arguments')}"

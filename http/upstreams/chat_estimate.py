"""Estimate of the tokens of a chat completions prompt, for upstreams that don't count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from ...actors.domain.llm.token_estimate import estimated_tokens

# The frame of a message, and of the answer's beginning, in the templates of OpenAI's, Qwen's and Llama's models.
_MESSAGE_TOKENS: Final = 4
# An image of middle size; models differ by a factor of ten.
_IMAGE_TOKENS: Final = 1_000


def estimated_prompt(body: Mapping[str, Any], model: str) -> int:
    """Estimate the prompt's tokens of a body that was checked, for a model of this name."""
    messages = body["messages"]
    texts, images = [], 0
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
                images += sum(part.get("type") == "image_url" for part in value)
    if tools := body.get("tools"):
        texts.append(msgspec.json.encode(tools).decode())
    counted = estimated_tokens("\n".join(texts), model) if any(texts) else 0
    return counted + _MESSAGE_TOKENS * (len(messages) + 1) + _IMAGE_TOKENS * images


def _called(calls: Any) -> Iterator[str]:
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function")
        if isinstance(function, dict):
            yield f"{function.get('name')} {function.get('arguments')}"

"""Estimates of chat completions prompts that no upstream counted."""

from __future__ import annotations

from typing import Any

from satmeter.actors.domain.llm.chat_prompt import estimated_prompt

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not care."


def estimate(*messages: Any, **fields: Any) -> int:
    return estimated_prompt({"messages": list(messages), **fields}, "tiny-llama").tokens


def test_every_part_of_a_prompt_adds_to_it() -> None:
    user = {"role": "user", "content": TEXT}
    least = estimate(user)
    assert 16 <= least <= 40
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": TEXT}
    result = {"role": "tool", "tool_call_id": "c", "content": TEXT}
    tools = [{"type": "function", "function": {"name": "weather", "description": TEXT}}]
    sizes = [
        least,
        estimate(user, answer),
        estimate(user, answer, result),
        estimate(user, answer, result, tools=tools),
    ]
    assert sizes == sorted(set(sizes))
    with_image = estimate({"role": "user", "content": [{"type": "text", "text": TEXT}, image]})
    # Its bytes say nothing of an image's tokens.
    assert least < with_image < least + 2_000
    assert estimate({"role": "assistant", "content": None}) > 0

"""Requests of each dialect with all that they may hold, as seeds of the fuzzing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from satmeter.http.responses.thoughts import ChatThought, sealed
from tests.helpers.chats import PNG
from tests.helpers.messages_over_chat import WEATHER
from tests.helpers.responses import AGENTS, ENCRYPTED, FUNCTION, PATCH

Json = dict[str, Any]
SONNET = "claude-sonnet-5-5"
SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
IMAGE: Json = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
MARK: Json = {"type": "ephemeral"}
MESSAGES: Sequence[Json] = (
    {"model": SONNET, "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]},
    {
        "model": SONNET,
        "max_tokens": 5_000,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image", "source": IMAGE}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
                    {"type": "text", "text": "Let me see"},
                    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Z"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "content": [{"type": "text", "text": "Sunny"}],
                        "is_error": False,
                    },
                    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page"}},
                    {"type": "search_result", "source": "x", "title": "T", "content": [{"type": "text", "text": "F"}]},
                ],
            },
        ],
        "tools": [WEATHER],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "someone"},
        "stream": True,
    },
    {
        "model": "tiny",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        "service_tier": "auto",
        "stream": False,
    },
)
CHATS: Sequence[Json] = (
    {"model": SONNET, "messages": [{"role": "user", "content": "Hello"}]},
    {
        "model": SONNET,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "And kind."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look", "cache_control": MARK},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "auto"}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me see",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Z"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "max_completion_tokens": 300,
        "stop": ["END"],
        "user": "someone",
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 20,
        "temperature": 0.5,
        "top_p": 0.9,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        "reasoning_effort": "low",
        "metadata": {"a": "b"},
        "store": False,
        "seed": 3,
        "n": 1,
    },
)
SEAL = sealed(ChatThought("Hm", "reasoning", "tiny"))
RESPONSES: Sequence[Json] = (
    {"model": SONNET, "input": "Hello"},
    {
        "model": SONNET,
        "instructions": "Be brief.",
        "input": [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": PNG}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": SEAL},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Z"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "Sunny"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "Done"}]},
        ],
        "tools": [FUNCTION, PATCH, AGENTS],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "metadata": {"a": "b"},
        "user": "someone",
        "stream": True,
        "store": False,
        **ENCRYPTED,
    },
    {
        "model": "tiny",
        "input": [{"role": "user", "content": "Hello"}],
        "tools": [FUNCTION, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "weather"},
        "max_output_tokens": 200,
        "temperature": 0.5,
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}, "verbosity": "medium"},
        "truncation": "disabled",
        "prompt_cache_key": "k",
    },
)

"""Answers of chat completions as tests write them down, whole and in chunks, and Responses requests for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.actors.domain.llm.catalogue import ModelEntry
from satmeter.actors.domain.pricing import ModelPrice, Rates
from satmeter.http.responses.over_chat.request import Asked, chat_of
from satmeter.http.responses.reading import read_request

Json = dict[str, Any]
MODEL = "tiny"
ONE = Decimal(1)
TINY = ModelEntry(
    MODEL, ("local",), "tiny-llama", ModelPrice(MODEL, Rates(ONE, ONE, ONE, ONE, ONE)), context_tokens=8_192
)
USAGE: Json = {
    "prompt_tokens": 17,
    "completion_tokens": 20,
    "total_tokens": 37,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 6},
}


def hidden(name: str) -> str:
    """Stand for the digest of a user's name."""
    return f"hidden-{len(name)}"


def chat(entry: ModelEntry = TINY, **fields: Any) -> Asked:
    """Translate a Responses request with these fields."""
    return chat_of(
        read_request(json.dumps({"model": MODEL, "input": "Hello", **fields}).encode()), entry, "max_tokens", hidden
    )


def chat_refusal(entry: ModelEntry = TINY, **fields: Any) -> tuple[str, str]:
    """Return the field that a refusal names, and its sentence."""
    with pytest.raises(RefusedError) as refused:
        chat(entry, **fields)
    assert refused.value.refusal.code is Code.INVALID_REQUEST
    (field,) = refused.value.refusal.details["fields"]
    return field["path"], field["message"]


def tool_call(name: str, arguments: str, call_id: str | None = None, **fields: Any) -> Json:
    """A call of a function."""
    head = {"id": call_id or f"call_{name}", "type": "function"}
    return {**head, "function": {"name": name, "arguments": arguments}, **fields}


def completion(finish_reason: str | None = "stop", usage: Any = USAGE, **message: Any) -> bytes:
    """A whole answer."""
    said = {"role": "assistant", "content": None, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "tiny-llama"}
    return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


def chunk(finish_reason: str | None = None, **delta: Any) -> Json:
    """A chunk of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "tiny-llama", "choices": [choice]}


def counted(usage: Any = USAGE) -> Json:
    """The chunk with the usage."""
    return {**chunk(), "choices": [], "usage": usage}


def chat_sse(*chunks: Json, newline: str = "\n", done: bool = True) -> bytes:
    """Chunks as they are sent."""
    lines = [f"data: {json.dumps(shown, ensure_ascii=False)}{newline * 2}" for shown in chunks]
    return "".join([*lines, f"data: [DONE]{newline * 2}" if done else ""]).encode()


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """Cut bytes at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[begin:end] for begin, end in pairwise(edges))

"""Responses requests as tests write them down, and OpenAI's own types, which each answer and event must fit."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.responses.request import Asked, asked_of
from tests.helpers.chats import HAIKU, MODELS, OLD, OPUS, SONNET

__all__ = ["HAIKU", "MODELS", "OLD", "OPUS", "SONNET"]
Json = dict[str, Any]
ENCRYPTED: Json = {"include": ["reasoning.encrypted_content"]}
FUNCTION: Json = {
    "type": "function",
    "name": "weather",
    "description": "The weather somewhere.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PATCH: Json = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Patches a file.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: LINE+"},
}
AGENTS: Json = {
    "type": "namespace",
    "name": "agents",
    "description": "Tools for agents.",
    "tools": [
        {"type": "function", "name": "close", "strict": False, "parameters": {"type": "object", "properties": {}}},
        {"type": "custom", "name": "tell"},
    ],
}


def asked(**fields: Any) -> Asked:
    """Translate a request with these fields."""
    return asked_of(json.dumps({"model": SONNET, "input": "Hello", **fields}).encode(), MODELS)


def refusal(**fields: Any) -> tuple[str, str]:
    """Return the field that a refusal names, and its sentence."""
    with pytest.raises(RefusedError) as refused:
        asked(**fields)
    assert refused.value.refusal.code is Code.INVALID_REQUEST
    (field,) = refused.value.refusal.details["fields"]
    return field["path"], field["message"]


@cache
def _adapter(name: str) -> Any:
    """Build the validator of one of OpenAI's types. They take seconds to import."""
    from openai.types import responses
    from pydantic import TypeAdapter

    return TypeAdapter(getattr(responses, name))


def fits(response: Json) -> Json:
    """Check a whole response by OpenAI's own type, strictly."""
    _adapter("Response").validate_python(response, strict=True)
    return response


def events_in(stream: bytes) -> list[Json]:
    """Return the events of a stream, each checked by OpenAI's own type and numbered in order."""
    found = []
    for text in stream.decode().split("\n\n"):
        if not text or text.startswith(":"):
            continue
        name, data = text.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        _adapter("ResponseStreamEvent").validate_python(event, strict=True)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found

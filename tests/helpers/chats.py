"""Chat completion requests as tests write them down, and what became of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.openai.request import Asked, asked_of
from tests.helpers.models import served

HAIKU, SONNET, OPUS, OLD = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5"
MODELS = served(HAIKU, SONNET, OPUS, OLD, "claude-of-an-operator")
HELLO = [{"role": "user", "content": "Hello"}]
PNG = "data:image/png;base64,iVBORw0KGgo="
Json = dict[str, Any]


def asked(**fields: Any) -> Asked:
    """The request with these fields."""
    return asked_of(json.dumps({"model": SONNET, "messages": HELLO, **fields}).encode(), MODELS)


def said(*messages: Json) -> Json:
    """The body of a request with these messages."""
    return asked(messages=list(messages)).body


def refusal(**fields: Any) -> tuple[str, str]:
    """The field that is named, and what is told of it."""
    with pytest.raises(RefusedError) as refused:
        asked(**fields)
    assert refused.value.refusal.code is Code.INVALID_REQUEST
    (field,) = refused.value.refusal.details["fields"]
    return field["path"], field["message"]


def user(*content: Json) -> Json:
    """A turn of the user."""
    return {"role": "user", "content": list(content)}


def text(words: str, **fields: Any) -> Json:
    """A text, which is the same on both sides."""
    return {"type": "text", "text": words, **fields}

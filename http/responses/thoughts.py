"""Thoughts of the model in `encrypted_content`, which clients send back as they got it.

The content is not encrypted here. Anthropic signs it, and refuses a thought that it did not have. Upstreams of chat
completions take any, so that only the model that had a thought gets it back. What they sign themselves goes along: the
details of OpenRouter's thoughts, and the signatures of Gemini's calls.
"""

from __future__ import annotations

import base64
from typing import Any, Final, Literal

import msgspec

_VERSION: Final = "sm1."


class Thinking(msgspec.Struct, frozen=True, tag_field="type", tag="thinking", forbid_unknown_fields=True):
    """A thought with its signature."""

    thinking: str
    signature: str


class RedactedThinking(
    msgspec.Struct, frozen=True, tag_field="type", tag="redacted_thinking", forbid_unknown_fields=True
):
    """A thought that only the provider can read."""

    data: str


class ChatThought(
    msgspec.Struct, frozen=True, tag_field="type", tag="chat", forbid_unknown_fields=True, omit_defaults=True
):
    """A thought of a model that speaks chat completions. `field` is the member of a message in which it stood.

    `details` are those of the thought, with its text. `calls` are the members that go back with the calls to which it
    led, by the ids of these.
    """

    text: str
    field: Literal["reasoning_content", "reasoning", ""]
    model: str
    details: list[dict[str, Any]] = []
    calls: dict[str, dict[str, Any]] = {}


Thought = Thinking | RedactedThinking | ChatThought
_thoughts: Final[msgspec.json.Decoder[Thought]] = msgspec.json.Decoder(Thought)


class UnreadableThoughtError(Exception):
    """Content that this server did not give."""


def sealed(thought: Thought) -> str:
    """Return the thought as `encrypted_content`."""
    return _VERSION + base64.urlsafe_b64encode(msgspec.json.encode(thought)).decode()


def opened(content: str) -> Thought:
    """Return the thought in an `encrypted_content`. Raises `UnreadableThoughtError`."""
    if not content.startswith(_VERSION):
        raise UnreadableThoughtError
    try:
        data = base64.b64decode(content[len(_VERSION) :].encode(), altchars=b"-_", validate=True)
        return _thoughts.decode(data)
    except (ValueError, RecursionError):
        raise UnreadableThoughtError from None

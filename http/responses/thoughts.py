"""Thoughts of the model in `encrypted_content`, which clients send back as they got it.

The content is not encrypted here. The provider signs it, and refuses a thought that it did not have.
"""

from __future__ import annotations

import base64
from typing import Any, Final

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


Thought = Thinking | RedactedThinking
_thoughts: Final[msgspec.json.Decoder[Thought]] = msgspec.json.Decoder(Thought)


class UnreadableThoughtError(Exception):
    """Content that this server did not give."""


def sealed(thought: Thought) -> str:
    """Return the thought as `encrypted_content`."""
    return _VERSION + base64.urlsafe_b64encode(msgspec.json.encode(thought)).decode()


def opened(content: str) -> dict[str, Any]:
    """Return the block of the Messages API in an `encrypted_content`. Raises `UnreadableThoughtError`."""
    if not content.startswith(_VERSION):
        raise UnreadableThoughtError
    try:
        data = base64.b64decode(content[len(_VERSION) :].encode(), altchars=b"-_", validate=True)
        thought = _thoughts.decode(data)
    except (ValueError, RecursionError):
        raise UnreadableThoughtError from None
    block: dict[str, Any] = msgspec.to_builtins(thought)
    return block

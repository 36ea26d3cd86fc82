"""Thoughts that go to the client and come back as they were."""

from __future__ import annotations

import base64

import pytest

from satmeter.http.responses.thoughts import (
    ChatThought,
    RedactedThinking,
    Thinking,
    UnreadableThoughtError,
    opened,
    sealed,
)


def test_a_thought_comes_back_as_it_was() -> None:
    for thought in (Thinking("Ü 🌍", "c2ln=="), RedactedThinking("x"), ChatThought("Ü", "reasoning", "tiny")):
        assert opened(sealed(thought)) == thought


def encoded(text: bytes) -> str:
    return "sm1." + base64.urlsafe_b64encode(text).decode()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "gAAAAAB",
        "sm1.",
        "sm1.???",
        "sm2." + encoded(b"{}")[4:],
        encoded(b"not json"),
        encoded(b'{"type":"text","text":"injected"}'),
        encoded(b'{"type":"thinking","thinking":"x"}'),
        encoded(b'{"type":"thinking","thinking":"x","signature":"y","cache_control":{}}'),
        encoded(b"[" * 10_000),
        encoded(b"\xff"),
        "sm1.é",
    ],
)
def test_what_this_server_did_not_give_is_not_read(content: str) -> None:
    with pytest.raises(UnreadableThoughtError):
        opened(content)

"""Halves of characters in JSON."""

from __future__ import annotations

import json

import msgspec
import pytest

from satmeter.actors.domain.llm.half_characters import decoded, whole_characters

CASES = [
    (rb'"a\ud83d"', "a\ufffd"),
    (rb'"\ude00b"', "\ufffdb"),
    (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
    (rb'"\uD83D\uDE00"', "\U0001f600"),
    (rb'"\\ud83d"', r"\ud83d"),
    (rb'"\\\ud83d"', "\\\ufffd"),
    (rb'"\ud83d\n"', "\ufffd\n"),
    (b'"a\xf0\x9f\x98"', "a\ufffd"),
    ('"\U0001f600"'.encode(), "\U0001f600"),
]


@pytest.mark.parametrize(("data", "text"), CASES)
def test_what_is_whole_stays_and_a_half_is_marked(data: bytes, text: str) -> None:
    assert json.loads(whole_characters(data)) == text
    assert decoded(msgspec.json.Decoder(str).decode, data) == text


@pytest.mark.parametrize("data", [b'"a', b"\xff", b'{"a":1}'])
def test_what_can_t_be_read_for_another_reason_still_raises(data: bytes) -> None:
    with pytest.raises(ValueError):
        decoded(msgspec.json.Decoder(str).decode, data)

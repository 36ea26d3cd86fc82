"""Errors that name what a client sent."""

from __future__ import annotations

import msgspec
import pytest

from satmeter.http.request_facts import RequestFacts
from satmeter.http.response import errors


@pytest.mark.parametrize(
    ("path", "shown"), [("messages.0.\ud800.x", "messages.0.?.x"), ("tools.0.\u00e4", "tools.0.\u00e4")]
)
def test_a_path_with_half_a_character_can_be_told(path: str, shown: str) -> None:
    answer = errors.answer(errors.invalid(path, "There is no such field"), RequestFacts("req_1"))
    body = msgspec.json.decode(bytes(answer.body))
    assert (answer.status_code, body["code"]) == (400, "invalid_request")
    assert body["fields"] == [{"path": shown, "message": "There is no such field"}]
    assert body["error"] == f"{shown}: There is no such field."


def test_a_path_of_any_length_is_told_by_its_beginning() -> None:
    answer = errors.answer(errors.invalid("x" * 1_000_000, "There is no such field"), RequestFacts("req_1"))
    assert len(bytes(answer.body)) < 5_000

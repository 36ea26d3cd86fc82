"""Statuses of errors that come without one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.actors.adapters.openai.errors import ClientsFaultError, error_in, failure, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 502, "message": "x"}, 502),
        ({"code": "429"}, 429),
        ({"status": 503}, 503),
        ({"code": 1, "type": "rate_limit_error"}, 429),
        ({"code": None, "type": "invalid_request_error"}, 400),
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, 400),
        ({"code": "model_not_found", "type": "invalid_request_error"}, 404),
        ({"type": "overloaded_error"}, 529),
        ({"type": "new_tomorrow"}, 500),
        ({"code": True, "type": []}, 500),
        ({}, 500),
    ],
)
def test_the_status_of_an_error(error: dict[str, Any], status: int) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"error": {"code": 1}}, {"code": 1}),
        ({"error": "words"}, {"message": "words"}),
        ({"object": "error", "code": 400}, {"object": "error", "code": 400}),
        ({"error": None, "choices": []}, None),
        ({"error": {}}, None),
        ({"choices": []}, None),
    ],
)
def test_an_error_in_an_event(event: dict[str, Any], found: dict[str, Any] | None) -> None:
    assert error_in(event) == found


def test_a_quotation_that_ends_within_a_character_leaves_the_rest_of_an_error_readable() -> None:
    error = failure(400, {}, b'{"error":{"message":"Too long: \\ud83d","code":"context_length_exceeded"}}')
    assert isinstance(error, ClientsFaultError) and "context_length_exceeded" in str(error)
    assert json.loads(error.end.body)["error"]["message"] == "Too long: \ufffd"

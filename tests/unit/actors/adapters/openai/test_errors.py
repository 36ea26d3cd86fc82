"""Statuses of errors that come without one."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.adapters.openai.errors import error_in, status_of


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

"""Refusals of chat completions upstreams in OpenAI's error format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.translation.provider_errors import of_chat

LONG: dict[str, Any] = {"type": "exceed_context_size_error", "message": "too long"}
BOTH = (
    "This model's maximum context length is 8 tokens. However, you requested 9 tokens (5 in the messages, 4 in the "
    "completion)."
)


def told(error: Any, status: int = 400) -> Any:
    return of_chat(status, json.dumps({"error": error}).encode(), "req_1")


def test_a_refusal_keeps_its_words_and_names_no_field_of_a_body_that_the_client_did_not_write() -> None:
    found = told({"message": "No tools.", "type": "bad", "code": None, "param": "messages[0].tool_calls"})
    assert found["error"] == {"message": "No tools.", "type": "invalid_request_error", "param": None, "code": "bad"}
    assert (found["code"], found["requestId"]) == ("invalid_request", "req_1")
    assert found["retryAction"] and found["paymentState"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LONG, "too long"),
        ({**LONG, "n_prompt_tokens": 9, "n_ctx": 8}, "maximum context length is 8 tokens. However, your messages"),
        ({"message": BOTH, "code": "context_length_exceeded"}, "(5 in the messages, 4 in the completion)"),
    ],
)
def test_a_prompt_that_is_too_long_is_told_in_openai_s_words(error: Any, words: str) -> None:
    found = told(error)["error"]
    assert found["code"] == "context_length_exceeded" and words in found["message"]


def test_a_body_that_is_too_large_is_a_prompt_that_is_too_long() -> None:
    found = of_chat(413, b"<html>", "req_1")
    assert (found["code"], found["error"]["code"]) == ("body_too_large", "context_length_exceeded")

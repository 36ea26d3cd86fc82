"""Refusals of a call, in the words of each kind of server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.upstreams.chat_errors import ChatRefusal, refusal_of

NO_REASON = "The model provider does not take this request."
OPENAI = {
    "error": {
        "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
        " Please reduce the length of the messages.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
}
VLLM = {
    "object": "error",
    "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the "
    "messages, 1000 in the completion). Please reduce the length of the messages or completion.",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}
NEWER_VLLM = {
    "error": {
        "message": "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context length is "
        "2048 tokens and your request has 1500 input tokens (1000 > 2048 - 1500).",
        "type": "BadRequestError",
        "code": 400,
    }
}
LLAMA = {
    "error": {
        "code": 400,
        "message": "the request exceeds the available context size. try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 3014,
        "n_ctx": 2048,
    }
}


@pytest.mark.parametrize(
    ("body", "prompt", "answer", "context"),
    [
        (OPENAI, 9_000, None, 8_192),
        (VLLM, 8_000, 1_000, 8_192),
        (NEWER_VLLM, 1_500, 1_000, 2_048),
        (LLAMA, 3_014, None, 2_048),
        ({"error": {"message": "input exceeds the context window"}}, None, None, None),
    ],
)
def test_a_prompt_that_does_not_fit_is_known_with_its_figures(
    body: Any, prompt: int | None, answer: int | None, context: int | None
) -> None:
    found = refusal_of(json.dumps(body).encode())
    assert found.too_long
    assert (found.prompt_tokens, found.answer_tokens, found.context_tokens) == (prompt, answer, context)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (
            {"error": {"message": "No.", "type": "invalid_request_error", "param": "tools", "code": "bad_tools"}},
            ChatRefusal("No.", "invalid_request_error", "bad_tools", "tools"),
        ),
        ({"error": "model does not take tools"}, ChatRefusal("model does not take tools")),
        ({"detail": "Not so."}, ChatRefusal("Not so.")),
        (
            {"detail": [{"loc": ["body", "messages", 0], "msg": "Field required", "type": "missing"}]},
            ChatRefusal("body.messages.0: Field required"),
        ),
        (
            {"error": {"message": 5, "code": 400, "type": []}},
            ChatRefusal(NO_REASON),
        ),
        ({"detail": []}, ChatRefusal(NO_REASON)),
        ([], ChatRefusal(NO_REASON)),
    ],
)
def test_the_reason_is_found_wherever_it_stands(body: Any, refusal: ChatRefusal) -> None:
    assert refusal_of(json.dumps(body).encode()) == refusal


def test_a_page_is_not_a_reason() -> None:
    assert refusal_of(b"<html>Bad Gateway</html>").message == NO_REASON

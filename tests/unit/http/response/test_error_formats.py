"""Errors in the shapes of other APIs."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.http.response import error_formats

TOLD: dict[str, Any] = {"error": "No.", "code": "some_code", "requestId": "req_1", "balanceMsat": 7}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "insufficient_quota"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (409, "invalid_request_error"),
        (429, "rate_limit_error"),
        (502, "server_error"),
        (503, "server_error"),
    ],
)
def test_an_error_of_openai_s_is_an_object_and_our_fields_stay_beside_it(status: int, kind: str) -> None:
    shown = {"message": "No.", "type": kind, "param": None, "code": "some_code"}
    assert error_formats.openai(status, TOLD) == {**TOLD, "error": shown}


def test_the_field_that_is_wrong_is_the_param() -> None:
    fields = [{"path": "tools[0].type", "message": "No"}, {"path": "n", "message": "No"}]
    assert error_formats.openai(400, {**TOLD, "fields": fields})["error"]["param"] == "tools[0].type"
    assert error_formats.openai(400, {**TOLD, "fields": [{"path": "", "message": "No"}]})["error"]["param"] is None


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/messages", error_formats.anthropic),
        ("/v1/messages/count_tokens", error_formats.anthropic),
        ("/v1/chat/completions", error_formats.openai),
        ("/v1/models/x", error_formats.either),
        ("/v1/embeddings", error_formats.either),
        ("/v1", error_formats.either),
        ("/v1/", error_formats.either),
        ("/v1/chat", error_formats.openai),
        ("/lnurl/withdraw/x", error_formats.lnurl),
        ("/v12", error_formats.plain),
        ("/sessions/v1/messages", error_formats.plain),
    ],
)
def test_each_path_has_the_shape_of_its_clients(path: str, shape: error_formats.Shape) -> None:
    assert error_formats.shape_of(path) is shape


def test_wallets_read_a_status_and_a_reason() -> None:
    assert error_formats.lnurl(429, TOLD) == {**TOLD, "status": "ERROR", "reason": "No."}


def test_either_shape_has_all_that_both_have() -> None:
    shown = error_formats.either(404, TOLD)
    assert shown["type"] == "error" and shown["request_id"] == "req_1"
    assert shown["error"] == {
        "message": "No.",
        "type": "not_found_error",
        "param": None,
        "code": "some_code",
        "details": {"error_code": "some_code"},
    }


LONG: dict[str, Any] = {
    "error": "Pay, or send less.",
    "code": "invalid_request",
    "requestId": "req_1",
    "promptTokens": 300,
    "promptTokensMax": 200,
}


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_programs_look_for() -> None:
    shown = error_formats.anthropic(400, LONG)["error"]
    assert shown["type"] == "invalid_request_error"
    assert shown["message"] == "prompt is too long: 300 tokens > 200 maximum. Pay, or send less."
    assert error_formats.prompt_length(shown["message"]) == (300, 200)
    shown = error_formats.openai(400, LONG)["error"]
    assert (shown["type"], shown["code"]) == ("invalid_request_error", "context_length_exceeded")
    assert shown["message"].startswith("This model's maximum context length is 200 tokens. However, your messages")
    assert shown["message"].endswith(" Pay, or send less.")


def test_a_body_that_is_too_large_is_one_as_well() -> None:
    told = {"error": "Too many bytes.", "code": "body_too_large", "requestId": "req_1"}
    shown = error_formats.anthropic(413, told)["error"]
    assert (shown["type"], shown["message"]) == (
        "request_too_large",
        "Request exceeds the maximum size. Too many bytes.",
    )
    shown = error_formats.openai(413, told)["error"]
    assert (shown["code"], shown["message"]) == (
        "context_length_exceeded",
        "Request exceeds the maximum size. Too many bytes.",
    )
    assert error_formats.plain(413, told)["error"] == "Too many bytes."


def test_other_sentences_have_no_length() -> None:
    assert error_formats.prompt_length("prompt is too long for us") is None

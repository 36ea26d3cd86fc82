"""Refusals of the provider under the Messages API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.anthropic.provider_refusals import refusal_body


def told(body: bytes, status: int = 400) -> Any:
    found = refusal_body(status, body, "req_ours")
    assert b"\n" not in found
    return json.loads(found)


def test_its_words_stay_and_our_fields_stand_beside_them() -> None:
    error = {"type": "invalid_request_error", "message": "no PDF", "details": {"a": 1}}
    found = told(json.dumps({"type": "error", "error": error, "request_id": "req_011"}, indent=1).encode())
    assert (found["type"], found["error"], found["request_id"]) == ("error", error, "req_011")
    assert (found["code"], found["requestId"]) == ("invalid_request", "req_ours")
    assert (found["retryAction"], found["paymentState"]) == ("stop", "unused")


def test_one_without_an_id_gets_ours_and_a_long_one_its_code() -> None:
    found = told(b'{"type":"error","error":{"type":"request_too_large","message":"too long"}}', 413)
    assert (found["request_id"], found["code"]) == ("req_ours", "body_too_large")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1]", b"{}", b'{"error":"x"}', b'{"error":{"type":1}}', b"[" * 9_999]
)
def test_one_that_can_t_be_read_is_told_in_the_same_shape(body: bytes) -> None:
    found = told(body)
    assert (found["type"], found["error"]["type"]) == ("error", "invalid_request_error")
    assert found["error"]["message"] and found["request_id"] == "req_ours" and found["retryAction"]

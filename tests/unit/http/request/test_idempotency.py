"""Keys of operations: what they cost a request that has none."""

from __future__ import annotations

from typing import Any, NoReturn

from pydantic import BaseModel
from starlette.requests import Request

from satmeter.http.request.idempotency import attempt_of, operation_key_of


class Body(BaseModel):
    """Body that must not be encoded."""

    def model_dump(self, **_: Any) -> NoReturn:
        raise AssertionError("the body was encoded")


def test_a_body_is_encoded_only_for_a_key_or_an_attempt() -> None:
    request = Request({"type": "http", "headers": [], "satmeter.request_id": "req_a"})
    once = operation_key_of(request, None, Body())
    assert not once.keyed and once.digest == ""
    assert attempt_of(request, None, Body()) is None

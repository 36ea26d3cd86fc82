"""The OpenAPI document that is made without a server."""

from __future__ import annotations

import json

import pytest

from satmeter.scripts import openapi_document


def test_it_is_printed_with_the_paths_of_a_development_server(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    openapi_document.main()
    document = json.loads(capfdbinary.readouterr().out)
    assert document["openapi"] == "3.1.0"
    assert {"/jobs", "/sessions", "/v1/messages", "/dev/stub/pay/{paymentHash}"} <= document["paths"].keys()

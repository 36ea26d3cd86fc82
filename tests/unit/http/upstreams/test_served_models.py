"""The model that a request names, and the API that its upstreams speak."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.llm.catalogue import Api
from tests.helpers.models import entry, served

MODELS = served(entry("tiny", aliases=("small",)), "claude-haiku-4-5", api=Api.OPENAI)


@pytest.mark.parametrize(
    ("name", "found"),
    [("tiny", "tiny"), ("small", "tiny"), ("claude-haiku-4-5-20251001", "claude-haiku-4-5"), ("tiny-latest", "tiny")],
)
def test_a_model_is_known_by_its_names(name: str, found: str) -> None:
    assert MODELS.named(name).name == found


@pytest.mark.parametrize(
    ("name", "code"),
    [("nobody", "model_not_found"), (None, "invalid_request"), (5, "invalid_request"), ("", "model_not_found")],
)
def test_a_name_that_is_not_known_is_refused(name: object, code: str) -> None:
    with pytest.raises(RefusedError) as caught:
        MODELS.named(name)
    assert caught.value.refusal.code == code
    assert caught.value.refusal.details["fields"][0]["path"] == "model"


@pytest.mark.parametrize("body", [b'{"model":"small","x":[{}]}', b'{"model":"tiny","x":"\\ud800"}'])
def test_a_body_tells_which_api_it_takes(body: bytes) -> None:
    assert MODELS.api_of(body) is Api.OPENAI


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model":"nobody"}', b'{"model":5}', b"\xff"])
def test_a_body_without_a_known_model_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError):
        MODELS.api_of(body)

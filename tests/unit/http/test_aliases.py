"""Meaning of paths that are not quite right."""

from __future__ import annotations

import pytest

from satmeter.http.aliases import meant


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/v1/v1/messages", "/v1/messages"),
        ("//v1/messages", "/v1/messages"),
        ("/v1//messages/", "/v1/messages"),
        ("/messages", "/v1/messages"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/responses", "/v1/responses"),
        ("/models", "/v1/models"),
        ("/models/claude-haiku-5-5", "/v1/models/claude-haiku-5-5"),
        ("/v1/models/", "/v1/models"),
        ("/v1/v1/embeddings", "/v1/embeddings"),
        ("/embeddings", "/v1/embeddings"),
        ("/jobs/", "/jobs"),
        ("/ask/", "/ask"),
        ("/messages-of-mine", "/messages-of-mine"),
        ("/v1x/messages", "/v1x/messages"),
        ("/", "/"),
        ("//", "/"),
    ],
)
def test_a_path_is_what_was_meant_by_it(asked: str, path: str) -> None:
    assert meant(asked) == path == meant(path)

"""Bodies of relayed calls."""

from __future__ import annotations

import contextlib
import hashlib
import json

import pytest

from satmeter.actors.domain.llm.relays import RelayBody, countable

DATA = b'{"max_tokens":500}'
BODY = RelayBody(DATA, 500, 14, 17)


def test_the_digest_is_of_what_the_client_sent_whatever_goes_on() -> None:
    sent = b'{ "max_tokens": 900 }'
    assert BODY.digest == BODY.made_of(DATA).digest == hashlib.sha256(DATA).digest()
    assert BODY.made_of(DATA) is BODY
    made = BODY.made_of(sent)
    assert made.digest == hashlib.sha256(sent).digest()
    assert made.data == DATA and made.lowered(7) == b'{"max_tokens":7}'


@pytest.mark.parametrize("text", [b'"\\ud83d"', b'{"\\ud83d":1}', b'["\\ud83d\\ude00","\\ude00"]'])
def test_half_a_character_is_counted(text: bytes) -> None:
    made = countable(b'{"model":"m","max_tokens":5,"messages":%b}' % text)
    assert json.loads(made) == {"model": "m", "messages": json.loads(text)}


def test_a_body_that_is_nested_too_deeply_is_no_recursion_error() -> None:
    # How deep is too deep depends on the version of Python and its stack.
    with contextlib.suppress(ValueError):
        assert countable(b'{"messages":%b%b}' % (b"[" * 100_000, b"]" * 100_000)).count(b"[") == 100_000


@pytest.mark.parametrize("body", [b"", b"[]", b"null"])
def test_what_is_no_body_is_not_counted(body: bytes) -> None:
    with pytest.raises(ValueError):
        countable(body)

"""Withdrawal tokens: only those that one of our keys made are read, and as what they were made for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.credentials.withdrawals import TOKEN_CHARS, read_token, token_of
from tests.fuzz.mutations import broken
from tests.helpers.jobs import JOB_ID
from tests.helpers.sessions import SESSION_ID

KEY, OTHER = b"a key of a test", b"another key"


@pytest.mark.parametrize(("actor_id", "generation"), [(SESSION_ID, 1), (SESSION_ID, 65_535), (JOB_ID, 0)])
def test_a_token_is_the_same_each_time_and_read_by_its_key_alone(actor_id: str, generation: int) -> None:
    token = token_of(KEY, actor_id, generation)
    assert token == token_of(KEY, actor_id, generation) and len(token) == TOKEN_CHARS
    found = read_token([OTHER, KEY], token)
    assert found is not None and (found.actor_id, found.generation) == (actor_id, generation)
    assert len(found.k1) == 64 and found.k1 not in token
    assert read_token([OTHER], token) is None and read_token([], token) is None


def test_tokens_and_words_differ_by_actor_generation_and_key() -> None:
    tokens = {token_of(key, SESSION_ID, generation) for key in (KEY, OTHER) for generation in (1, 2)}
    words = {found.k1 for token in tokens if (found := read_token([KEY, OTHER], token)) is not None}
    assert len(tokens) == len(words) == 4


@given(st.just(token_of(KEY, SESSION_ID, 1)).flatmap(lambda token: broken(token.encode())))
def test_no_other_text_is_a_token(data: bytes) -> None:
    text = data.decode("latin-1")
    assert (read_token([KEY], text) is not None) == (text == token_of(KEY, SESSION_ID, 1))

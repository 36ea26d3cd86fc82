"""Marks of our invoices in their preimages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.lnd.marks import is_marked, new_preimage

KEY, ACTOR = b"k" * 32, "ses_1"


def test_a_preimage_is_32_bytes_and_never_the_same() -> None:
    made = {new_preimage(KEY, ACTOR) for _ in range(100)}
    assert len(made) == 100
    assert {len(preimage) for preimage in made} == {32}


def test_a_mark_is_for_one_actor_and_by_one_key() -> None:
    preimage = new_preimage(KEY, ACTOR)
    assert is_marked(preimage, KEY, ACTOR)
    assert not is_marked(preimage, KEY, "ses_2")
    assert not is_marked(preimage, b"x" * 32, ACTOR)
    assert not is_marked(preimage[::-1], KEY, ACTOR)


@given(st.binary(max_size=64))
def test_other_bytes_are_not_marked(preimage: bytes) -> None:
    assert not is_marked(preimage, KEY, ACTOR)

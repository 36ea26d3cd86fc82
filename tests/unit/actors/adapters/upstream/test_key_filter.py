"""Filter of the operator's key."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.upstream.key_filter import KeyFilter

KEY = b"sk-ssk-1"


def told(chunks: list[bytes], key: bytes = KEY) -> bytes:
    made = KeyFilter(key)
    return b"".join([*map(made.passed, chunks), made.rest()])


@pytest.mark.parametrize("place", range(1, len(KEY) + 4))
def test_a_key_that_is_cut_anywhere_is_left_out(place: int) -> None:
    text = b"a" + KEY + b"bb"
    assert told([text[:place], text[place:]]) == b"a[key]bb"


def test_nothing_is_held_back_but_what_may_be_the_key() -> None:
    made = KeyFilter(KEY)
    assert [made.passed(chunk) for chunk in (b"data: s\n\n", b"is", b"o", b"sk-", b"s", b"!")] == [
        b"data: s\n\n",
        b"i",
        b"so",
        b"",
        b"",
        b"sk-s!",
    ]
    assert made.passed(b"sk-") == b"" and made.rest() == b"sk-" and made.rest() == b""


def test_without_a_key_all_goes_on() -> None:
    assert told([b"a", b"", b"b"], b"") == b"ab"


@given(st.lists(st.sampled_from([b"s", b"k", b"-", b"ssk-1", KEY, b"x"]), max_size=12), st.data())
def test_however_the_bytes_are_cut_the_same_is_told_and_never_the_key(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    places = [0, *cuts, len(text)]
    found = told([text[a:b] for a, b in itertools.pairwise(places)])
    assert KEY not in found
    assert found == text.replace(KEY, b"[key]")

"""Pauses between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.backoff import Backoff, pause_after


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_success() -> None:
    backoff = Backoff(0.05, 0.5)
    assert [backoff.next() for _ in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert [backoff.next() for _ in range(2)] == [0.05, 0.1]


@given(st.integers(0, 10**9), st.integers(1, 10_000), st.integers(0, 10**9))
def test_a_pause_is_never_longer_than_the_longest_however_often_was_tried(tries: int, first: int, longest: int) -> None:
    pause = pause_after(tries, first, longest)
    assert pause == (longest if tries >= 30 else min(first * 2**tries, longest))

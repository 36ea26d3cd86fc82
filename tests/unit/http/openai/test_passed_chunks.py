"""Chunks that go on as they came, however their bytes are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.http.openai.passed_chunks import PassedChunks
from tests.helpers.chat_upstream import COUNTED, DONE, STOP, USAGE, WHOLE_STREAM, choice, chunk, sse

COST = {"cost_msat": 5}
HI = chunk(choice("Hi"))


def passed(data: bytes, *, tells: bool = True, cost: Any = COST, cuts: Any = ()) -> bytes:
    chunks, edges = PassedChunks(tells_usage=tells), [0, *sorted(cuts), len(data)]
    ready = [chunks.read(data[begin:end]) for begin, end in pairwise(edges)]
    return b"".join(ready) + chunks.end(cost)


def test_the_cost_goes_into_the_last_usage() -> None:
    sent = sse(HI, STOP, COUNTED, DONE)
    with_cost = {**COUNTED, "usage": {**USAGE, **COST}}
    assert json.loads(passed(sent).split(b"data: ")[-1]) == with_cost
    assert passed(sent).startswith(sse(HI, STOP))
    assert passed(sent, cost=None) == sse(HI, STOP, COUNTED)


def test_a_client_that_did_not_ask_for_the_usage_gets_none() -> None:
    assert passed(sse(HI, STOP, COUNTED, COUNTED, DONE), tells=False) == sse(HI, STOP)
    assert passed(sse({**HI, "usage": None}, STOP, COUNTED), tells=False) == sse({**HI, "usage": None}, STOP)


def test_half_a_character_beside_a_usage_shows_it_to_nobody_who_did_not_ask() -> None:
    counted = sse(COUNTED).replace(b"data: {", b'data: {"note":"\\ud83d",')
    assert passed(sse(HI, STOP) + counted, tells=False) == sse(HI, STOP)


def test_a_usage_for_each_choice_goes_on_and_the_last_one_has_the_cost() -> None:
    second = chunk(choice("there", index=1))
    shown = passed(sse(HI, COUNTED, second, COUNTED, DONE))
    assert shown.startswith(sse(HI, COUNTED, second))
    assert shown.count(b"cost_msat") == 1 and shown.count(b"prompt_tokens") == 2


def test_a_usage_with_each_piece_holds_nothing_up() -> None:
    chunks = PassedChunks(tells_usage=False)
    piece = sse({**HI, "usage": USAGE})
    assert chunks.read(piece) == piece


def test_a_comment_goes_on_at_once_and_text_that_speaks_of_usage_is_text() -> None:
    told = sse(chunk(choice('"usage": {"prompt_tokens": 5} [DONE]')))
    assert passed(b": processing\n\n" + told) == b": processing\n\n" + told


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"", b"data: [DONE]\n\n"])
def test_the_end_mark_waits_for_the_cost(end: bytes) -> None:
    assert passed(sse(HI) + end) == sse(HI)


def test_an_event_without_end_does_not_fill_the_memory() -> None:
    chunks = PassedChunks(tells_usage=True)
    assert chunks.read(b"data: " + b"x" * (4 << 20)) != b""


@given(st.lists(st.integers(0, 900), max_size=9), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_cuts_change_nothing(cuts: list[int], tells: bool, newline: str) -> None:
    sent = sse(*WHOLE_STREAM, newline=newline)
    cuts = [cut % (len(sent) + 1) for cut in cuts]
    assert passed(sent, tells=tells, cuts=cuts) == passed(sent, tells=tells)

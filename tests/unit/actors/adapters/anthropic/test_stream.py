"""Reader of streamed answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.anthropic.stream import StreamedAnswer
from satmeter.actors.domain.llm.answers import Completion, StreamPart, TextDelta
from satmeter.actors.domain.pricing import Usage
from tests.helpers.anthropic_streams import (
    FIRST_USAGE,
    MODEL,
    STOP,
    WHOLE,
    WHOLE_PARTS,
    block,
    change,
    delta,
    error,
    sse,
    start,
)


def read(chunks: Sequence[bytes]) -> list[StreamPart]:
    """Read chunks, and return what the reader makes of them."""
    answer = StreamedAnswer(MODEL)
    found = [part for chunk in chunks for part in answer.read(chunk)]
    return [*found, answer.completion()]


@given(st.sets(st.integers(1, len(sse(*WHOLE, newline="\r\n")) - 1)), st.sampled_from(["\n", "\r\n", "\r"]))
def test_however_the_bytes_are_cut_the_parts_are_the_same(cuts: set[int], newline: str) -> None:
    recorded = sse(*WHOLE, newline=newline)
    edges = [0, *sorted(cut for cut in cuts if cut < len(recorded)), len(recorded)]
    assert read([recorded[left:right] for left, right in pairwise(edges)]) == WHOLE_PARTS


def test_byte_by_byte_the_parts_are_the_same() -> None:
    recorded = sse(*WHOLE, newline="\r\n")
    assert read([recorded[place : place + 1] for place in range(len(recorded))]) == WHOLE_PARTS


def test_what_is_no_text_is_passed_over() -> None:
    events = [
        start(),
        block("thinking", 0, thinking="Hm."),
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop", "index": 0},
        block("kind_of_tomorrow", 1, text=["no", "string"]),
        delta("not an answer", 1),
        delta({"no": "string"}, 1, "delta_of_tomorrow"),
        {"type": "event_of_tomorrow", "index": "no number", "delta": 7, "message": []},
        block("text", 2),
        delta("", 2),
        delta("The answer.", 2),
        change(),
        STOP,
    ]
    found = read([sse(*events)])
    assert [part for part in found if isinstance(part, TextDelta)] == [TextDelta("The answer.")]


def test_several_text_blocks_are_one_text_and_a_block_may_begin_with_some() -> None:
    *texts, last = read([sse(block(text="A"), delta("B"), block(index=1), delta("C", 1), change(), STOP)])
    assert texts == [TextDelta("A"), TextDelta("B"), TextDelta("C")]
    assert isinstance(last, Completion) and last.text == "ABC"


def test_comments_ids_and_what_comes_after_the_end_are_passed_over() -> None:
    recorded = b": hello\n\nid: 7\nretry: 3\n" + sse(*WHOLE) + sse(delta("late"), error("api_error")) + b"data: {\n"
    assert read([recorded]) == WHOLE_PARTS


@pytest.mark.parametrize(
    ("first", "last", "final"),
    [
        (FIRST_USAGE, {"output_tokens": 20}, Usage(10, 20, 4, 2, 1)),
        (FIRST_USAGE, {"input_tokens": 12, "output_tokens": 20}, Usage(12, 20, 4, 2, 1)),
        (FIRST_USAGE, {"input_tokens": None, "cache_creation": None, "output_tokens": 20}, Usage(10, 20, 4, 2, 1)),
        (FIRST_USAGE, {"cache_read_input_tokens": 9, "output_tokens": 20}, Usage(10, 20, 9, 2, 1)),
        ({"output_tokens": 1}, {"input_tokens": 10, "output_tokens": 20}, Usage(10, 20)),
        # Without a figure, the text is what is known of the answer: 1 byte.
        (FIRST_USAGE, {"output_tokens": 0}, Usage(10, 1, 4, 2, 1)),
        (FIRST_USAGE, {}, Usage(10, 1, 4, 2, 1)),
        (FIRST_USAGE, {"output_tokens": None}, Usage(10, 1, 4, 2, 1)),
        (FIRST_USAGE, {"output_tokens": -1}, Usage(10, 1, 4, 2, 1)),
        (FIRST_USAGE, {"output_tokens": "20"}, Usage(10, 1, 4, 2, 1)),
        (FIRST_USAGE, {"output_tokens": 1e300}, Usage(10, 1, 4, 2, 1)),
        (FIRST_USAGE, [20], Usage(10, 1, 4, 2, 1)),
        ({}, {"output_tokens": 20}, None),
        (None, {"output_tokens": 20}, None),
    ],
)
def test_the_last_count_goes_over_the_first(first: Any, last: Any, final: Usage | None) -> None:
    found = read([sse(start(first), block(), delta("x"), change(usage=last), STOP)])
    assert isinstance(found[-1], Completion)
    assert found[-1].usage == final


@pytest.mark.parametrize("reasons", [(None, "max_tokens"), ("max_tokens", None), ("end_turn", "max_tokens")])
def test_of_several_counts_and_reasons_the_last_one_holds(reasons: tuple[str | None, str | None]) -> None:
    counts = [change(reasons[0], {"output_tokens": 7}), change(reasons[1], {"output_tokens": 30})]
    last = read([sse(start(), block(), delta("x"), *counts, STOP)])[-1]
    assert isinstance(last, Completion)
    assert (last.usage, last.stop_reason) == (Usage(10, 30, 4, 2, 1), "max_tokens")


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1, "output_tokens": 1}, "many"])
def test_an_unreadable_first_count_is_not_given(usage: Any) -> None:
    found = read([sse(start(usage), block(), delta("x"), change(), STOP)])
    assert [type(part) for part in found] == [TextDelta, Completion]

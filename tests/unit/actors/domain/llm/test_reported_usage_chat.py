"""A report of a chat completion holds the usage objects by which it was billed, to the byte, and reads as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.openai.relay import whole_end
from satmeter.actors.adapters.openai.stream import ChatStream
from satmeter.actors.adapters.openai.work import work_in
from satmeter.actors.domain.llm.chat_usage import ChatStreamCounts
from satmeter.actors.domain.llm.reported_usage import USAGE_MAX_BYTES, ChatReporter, reading_of
from satmeter.actors.domain.pricing import Usage
from tests.helpers.chat_upstream import COUNTED, DONE, STOP, USAGE, choice, chunk, message, reported, sse

HEADERS = {"x-request-id": "theirs"}


def read(*events: Any, headers: dict[str, str] | None = None) -> ChatStream:
    """A stream with these events."""
    stream = ChatStream(headers or {})
    stream.read(sse(*events))
    return stream


def usage(prompt: Any, output: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": output, **more}


def test_a_whole_answers_usage_is_kept_to_the_byte() -> None:
    spaced = '{ "prompt_tokens" : 18,\n "completion_tokens":16, "note":"h\u00e9", "n":2.50 }'
    body = json.dumps(message(usage="HERE")).replace('"HERE"', spaced).encode()
    told = whole_end(HEADERS, body).reported
    assert work_in(body, HEADERS).reported == told
    assert told == reported(spaced, provider_id="theirs") and reading_of(told) == Usage(18, 16)


@pytest.mark.parametrize("shown", [{}, {"prompt_tokens": 0, "completion_tokens": 3}, usage(18, 0)])
def test_figures_that_the_bill_can_not_use_are_kept_as_lacking(shown: Any) -> None:
    end = whole_end(HEADERS, json.dumps(message(usage=shown)).encode())
    assert (end.usage, end.reported) == (None, reported(shown, provider_id="theirs", missing=True))
    assert end.reported is not None and reading_of(end.reported) is None


@pytest.mark.parametrize("shown", [None, 7, "x", []])
def test_what_is_not_an_object_is_no_usage(shown: Any) -> None:
    assert whole_end({}, json.dumps({**message(), "usage": shown}).encode()).reported == reported()


def test_the_usage_at_the_end_of_a_stream_is_kept_to_the_byte() -> None:
    stream = ChatStream(HEADERS)
    stream.read(
        sse(chunk(choice("x")), STOP) + b'data: {"choices":[],"usage":{ "prompt_tokens":3,"completion_tokens":\t2}}\n'
    )
    told = stream.reported(ended=True)
    assert told == reported('{ "prompt_tokens":3,"completion_tokens":\t2}', provider_id="theirs")
    assert reading_of(told) == Usage(3, 2) == stream.counted.whole()


def test_one_for_each_choice_adds_up() -> None:
    """llama.cpp gives each choice's usage in a chunk of its own."""
    events = [
        chunk(choice("a", 0)),
        chunk(choice("b", 1)),
        chunk(choice(index=0, finish="stop")),
        chunk(usage=usage(9, 4)),
    ]
    stream = read(*events, chunk(choice(index=1, finish="stop")), chunk(usage=usage(9, 5)), DONE)
    told = stream.reported(ended=True)
    assert told == reported(usage(9, 4), usage(9, 5)) and reading_of(told) == Usage(9, 9)


def test_of_growing_figures_the_last_of_each_choice_is_kept() -> None:
    """vLLM gives them with each piece."""
    events = [chunk(choice("x", n % 2), usage=usage(9, n)) for n in range(1, 400)]
    told = read(*events).reported()
    assert told == reported(usage(9, 398), usage(9, 399)) and reading_of(told) == Usage(9, 797)
    ended = [chunk(choice(index=n, finish="stop")) for n in (0, 1)]
    assert read(*events, *ended, chunk(usage=usage(9, 801))).reported(ended=True) == reported(usage(9, 801))


def test_groqs_own_member_is_read_too() -> None:
    told = read(chunk(choice("x")), {**STOP, "x_groq": {"id": "req_1", "usage": USAGE}}).reported(ended=True)
    assert told == reported(USAGE)


def test_a_stream_that_is_not_counted_to_its_end_is_partial_or_lacks_figures() -> None:
    early = usage(9, 1)
    stream = read(chunk(choice("x"), usage=early), chunk(choice("y")))
    assert stream.reported() == reported(early, partial=True) and reading_of(stream.reported()) == Usage(9, 1)
    assert stream.reported(ended=True) == reported(early, missing=True) and stream.counted.whole() is None
    assert read(chunk(choice("x")), headers=HEADERS).reported() == reported(provider_id="theirs")


def test_figures_of_the_prompt_that_a_later_object_leaves_out_are_kept() -> None:
    first, last = usage(9, 1, prompt_tokens_details={"cached_tokens": 4}), usage(9, 7)
    stream = read(chunk(choice("x"), usage=first), chunk(choice("y"), usage=last), STOP)
    told = stream.reported(ended=True)
    assert (told.first, told.later) == (json.dumps(first), (json.dumps(last),))
    assert reading_of(told) == Usage(5, 7, 4) == stream.counted.whole()


@pytest.mark.parametrize(
    "event",
    [chunk(usage=usage(3, 2, more="x" * USAGE_MAX_BYTES)), chunk(usage=usage(3, 2, more="é" * (USAGE_MAX_BYTES // 2)))],
)
def test_too_large_ones_are_cut_out_and_said_to_be(event: Any) -> None:
    stream = read(chunk(choice("x")), STOP, event)
    assert stream.reported(ended=True) == reported(cut=True) and stream.counted.whole() == Usage(3, 2)
    body = json.dumps(message(usage=event["usage"])).encode()
    assert whole_end({}, body).reported == reported(cut=True)


def test_many_of_them_are_cut_out_together() -> None:
    events = [chunk(choice("x", n), usage=usage(3, n + 1, more="x" * 100)) for n in range(60)]
    assert read(*events).reported() == reported(cut=True)


def test_one_with_bytes_that_are_not_text_is_kept_without_them() -> None:
    stream = read(chunk(choice("x")), STOP)
    stream.read(b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"a":"\xff"}}\n')
    (kept,) = stream.reported(ended=True).later
    assert kept == '{"prompt_tokens":3,"completion_tokens":2,"a":"\ufffd"}'


FIGURES = st.none() | st.integers(-1, 9) | st.just("x")
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": FIGURES,
        "completion_tokens": FIGURES,
        "prompt_cache_hit_tokens": FIGURES,
        "cache_creation_input_tokens": FIGURES,
    },
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["given", "finish", "take"]), st.sets(st.integers(0, 2)), OBJECTS), max_size=12
)


@given(STEPS)
def test_a_report_reads_as_the_call_was_billed_or_is_cut(steps: list[tuple[str, set[int], dict[str, Any]]]) -> None:
    counted, reporter = ChatStreamCounts(), ChatReporter({})
    for kind, choices, counts in steps:
        if kind == "take":
            counted.take(counts, choices, json.dumps(counts))
        else:
            for index in choices:
                getattr(counted, kind)(index)
        told = reporter.streamed(counted)
        assert told.cut or reading_of(told) == counted.usage()
    ended = reporter.streamed(counted, ended=True)
    assert ended.cut or reading_of(ended) == counted.whole()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=1, max_size=12))
def test_figures_of_servers_that_are_known_are_never_cut(pieces: list[tuple[int, int]]) -> None:
    counted, reporter, given_tokens = ChatStreamCounts(), ChatReporter({}), {0: 0, 1: 0, 2: 0}
    for index, tokens in pieces:
        given_tokens[index] += tokens
        counted.given(index)
        counts = usage(7, given_tokens[index])
        counted.take(counts, (index,), json.dumps(counts))
    told = reporter.streamed(counted, ended=True)
    assert not told.cut and reading_of(told) == Usage(7, sum(given_tokens.values()))


def test_counted_alone_says_nothing_new() -> None:
    """A repeated usage is kept once."""
    assert read(chunk(choice("x")), STOP, COUNTED, COUNTED, DONE).reported(ended=True) == reported(USAGE)

"""A provider's report of a call holds its usage to the byte, reads as it was billed, and gets into no log."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.anthropic.answers import read_completion, read_evaluation
from satmeter.actors.adapters.anthropic.relay import RelayedStream, whole_end
from satmeter.actors.adapters.anthropic.stream import StreamedAnswer
from satmeter.actors.domain.llm.reported_usage import (
    USAGE_MAX_BYTES,
    ReportedUsage,
    UsageReporter,
    provider_id,
    reading_of,
    whole_report,
)
from satmeter.actors.domain.llm.usage import StreamCounts, counts_of, output_of
from satmeter.actors.domain.pricing import Usage
from satmeter.actors.ports import Completion
from tests.helpers.anthropic_streams import FIRST_USAGE, MODEL, STOP, block, change, delta, sse, start

SPACED = '{ "input_tokens" : 27,\n  "output_tokens":275, "note":"h\u00e9", "n":2.50 }'


def reported(first: str | None, *later: str, final: bool = True, headers: Any = None) -> ReportedUsage:
    """The report of a stream with these usages, or of a whole answer."""
    reporter = UsageReporter(headers or {})
    if first is not None:
        reporter.begin(first.encode())
    for usage in later:
        reporter.go_on(usage.encode())
    return reporter.report(final=final)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"request-id": "req_011CSHoEeqs5C35K2UUqR7Fy"}, "req_011CSHoEeqs5C35K2UUqR7Fy"),
        ({"x-request-id": "9b2f-1.a"}, "9b2f-1.a"),
        ({"request-id": "", "x-request-id": "b"}, "b"),
        ({}, None),
        *(({"request-id": value}, None) for value in ("the words of a client", "a" * 129, "\x1b[2J", "é", "a\n")),
    ],
)
def test_the_id_of_a_call_is_an_id_or_nothing(headers: dict[str, str], expected: str | None) -> None:
    assert provider_id(headers) == expected


def whole(usage: str) -> bytes:
    """A whole answer as the provider sends it."""
    content = '[{"type":"text","text":"Hello"}]'
    return f'{{"type":"message","content":{content},"stop_reason":"end_turn","usage": {usage} }}'.encode()


def test_a_whole_answers_usage_is_kept_to_the_byte() -> None:
    headers = {"request-id": "req_1"}
    expected = ReportedUsage("req_1", later=(SPACED,))
    assert whole_end(200, headers, whole(SPACED)).reported == expected
    assert read_completion(whole(SPACED), MODEL, headers).reported == expected
    text = json.dumps('{"reason":"r","decision":"accept","size":"small"}').encode()
    verdict = whole(SPACED).replace(b'"Hello"', text)
    assert read_evaluation(verdict, MODEL, headers).reported == expected
    assert reading_of(expected) == Usage(27, 275)


def test_a_streams_first_and_last_usages_are_kept_to_the_byte() -> None:
    headers = {"request-id": "req_1"}
    sent = sse(start(), block(), delta("x"), change(usage={"output_tokens": 20}), STOP)
    sent = sent.replace(b'{"output_tokens": 20}', b'{"output_tokens":\t20 }')
    expected = ReportedUsage("req_1", json.dumps(FIRST_USAGE), ('{"output_tokens":\t20 }',))
    relayed = RelayedStream(headers)
    relayed.read(sent)
    assert relayed.end({}).reported == relayed.so_far().reported == expected
    asked = StreamedAnswer(MODEL, headers)
    list(asked.read(sent))
    assert asked.completion().reported == expected
    assert reading_of(expected) == Usage(10, 20, 4, 2, 1)


@pytest.mark.parametrize("usage", ["null", "7", '"x"', "[]"])
def test_what_is_not_an_object_is_no_usage(usage: str) -> None:
    assert whole_end(200, {}, whole(usage)).reported == ReportedUsage()
    assert reported(usage, usage) == ReportedUsage()


def test_figures_that_do_not_count_the_whole_answer_are_partial() -> None:
    stream = RelayedStream()
    stream.read(sse(start(), block(), delta("x")))
    told = stream.so_far().reported
    assert told == ReportedUsage(None, json.dumps(FIRST_USAGE), partial=True)
    assert whole_end(200, {}, whole('{"input_tokens":1}')).reported == ReportedUsage(
        None, later=('{"input_tokens":1}',), partial=True
    )


def test_of_many_counts_those_are_kept_that_say_all() -> None:
    growing = [json.dumps({"output_tokens": count}) for count in range(1, 500)]
    assert reported('{"input_tokens":3}', *growing).later == (growing[-1],)
    cached, last = '{"cache_read_input_tokens":5,"output_tokens":1}', '{"output_tokens":9}'
    kept = reported('{"input_tokens":3}', cached, last)
    assert (kept.later, reading_of(kept)) == ((cached, last), Usage(3, 9, 5))


@pytest.mark.parametrize(
    "usages",
    [
        [json.dumps({"input_tokens": 3, "more": "x" * USAGE_MAX_BYTES})],
        [json.dumps({"input_tokens": 3, "output_tokens": n, f"m{n}": "x" * 100}) for n in range(60)],
        [json.dumps({"a": "é" * USAGE_MAX_BYTES}, ensure_ascii=False)[: USAGE_MAX_BYTES // 2 + 9] + '"}'],
    ],
    ids=["one", "many", "wide"],
)
def test_too_large_ones_are_cut_out_and_said_to_be(usages: list[str]) -> None:
    for told in (reported(None, *usages), reported(usages[0], *usages)):
        assert told == ReportedUsage(cut=True)


def test_a_usage_that_is_not_text_is_cut_out() -> None:
    reporter = UsageReporter({})
    reporter.go_on(b'{"a":"\xff"}')
    assert reporter.report(final=True) == ReportedUsage(cut=True)


figures = st.none() | st.integers(-1, 9) | st.just("x")
names = ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "service_tier"]
usages = st.dictionaries(st.sampled_from(names), figures).map(json.dumps)


@given(usages, st.lists(usages, max_size=6))
def test_a_report_reads_as_the_call_was_billed(first: str, later: list[str]) -> None:
    counted = StreamCounts()
    counted.begin(counts_of(first.encode()))
    for usage in later:
        counted.go_on(counts_of(usage.encode()))
    kept = reported(first, *later, final=counted.final)
    assert reading_of(kept) == counted.usage(0)
    assert kept.first == first and set(kept.later) <= set(later)
    assert msgspec.json.decode(msgspec.json.encode(kept), type=ReportedUsage) == kept


@given(
    usages.map(str.encode) | st.sampled_from([b"null", b"[1]", b"", b'{"a":"\xff"}', b'{"a":"%b"}' % (b"x" * 5_000)])
)
def test_a_whole_answers_report_is_that_of_a_stream_with_its_one_usage(usage: bytes) -> None:
    headers, counts = {"request-id": "req_1"}, counts_of(usage)
    reporter = UsageReporter(headers)
    reporter.go_on(usage)
    assert whole_report(usage, counts, headers) == reporter.report(final=bool(output_of(counts)))


def test_no_log_or_error_shows_the_providers_texts() -> None:
    secret = "the-secret-words-of-a-client"
    told = reported(f'{{"a":"{secret}"}}', f'{{"b":"{secret}"}}', headers={"request-id": "req_1"})
    completion = Completion("x", MODEL, None, "end_turn", told)
    with structlog.testing.capture_logs() as logged:
        structlog.get_logger().warning("defect", reported=told, completion=completion)
    shown = f"{told!r} {told} {completion!r} {logged!r} {list(told.__rich_repr__())}"
    assert not re.search(secret, shown)

"""Counts of the provider's "usage" objects, whole and in the events of a stream."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.anthropic.relay import RelayedStream, whole_end
from satmeter.actors.domain.llm.relays import RelayEnd
from satmeter.actors.domain.llm.usage import StreamCounts, counts_of, merged, usage_of
from satmeter.actors.domain.pricing import Usage
from satmeter.http.openai.answer import usage as shown_in_chat
from tests.helpers.anthropic_streams import STOP, block, change, delta, sse, start

M5, M60 = "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"
PLAIN = {"input_tokens": 27, "output_tokens": 275}


def written(total: Any = 14_980, **members: Any) -> dict[str, Any]:
    """Figures with so much written to the cache, by lifetime."""
    return {**PLAIN, "cache_creation_input_tokens": total, "cache_creation": members}


ALL_5M, ALL_1H = Usage(27, 275, 0, 14_980), Usage(27, 275, 0, 0, 14_980)
TABLE: list[tuple[dict[str, Any], Usage]] = [
    (PLAIN, Usage(27, 275)),
    ({**PLAIN, "service_tier": "standard", "server_tool_use": None}, Usage(27, 275)),
    ({"input_tokens": 0, "output_tokens": 1}, Usage(0, 1)),
    ({"input_tokens": 27.0, "output_tokens": 275.0}, Usage(27, 275)),
    # One member, none, or null: what is there counts, and the rest of the sum is five-minute writes.
    (written(**{M60: 14_980}), ALL_1H),
    (written(**{M5: 14_980}), ALL_5M),
    (written(), ALL_5M),
    (written(**{M5: None, M60: 14_980}), ALL_1H),
    (written(**{M5: 14_980, M60: None}), ALL_5M),
    (written(**{M5: None, M60: None}), ALL_5M),
    (written(**{M60: 7_490}), Usage(27, 275, 0, 7_490, 7_490)),
    (written(**{M5: 1_000, M60: 7_490}), Usage(27, 275, 0, 7_490, 7_490)),
    (written(**{M5: 0, M60: 0}), ALL_5M),
    ({**PLAIN, "cache_creation_input_tokens": 14_980}, ALL_5M),
    ({**PLAIN, "cache_creation_input_tokens": 14_980, "cache_creation": None}, ALL_5M),
    # Members without their sum, or beyond it.
    (written(None, **{M60: 14_980}), ALL_1H),
    (written(None, **{M5: 4, M60: 5}), Usage(27, 275, 0, 4, 5)),
    (written(0, **{M5: 4, M60: 5}), Usage(27, 275, 0, 4, 5)),
    (written(8, **{M5: 4, M60: 5}), Usage(27, 275, 0, 4, 5)),
    ({**PLAIN, "cache_creation": {M60: 5}}, Usage(27, 275, 0, 0, 5)),
    # Of what can't be read beside it, the sum or the members are left.
    (written(**{M5: "many", M60: -5}), ALL_5M),
    (written(**{M5: True, M60: 14_980}), ALL_1H),
    (written(**{M5: 1.5, M60: 10**12}), ALL_5M),
    ({**written(), "cache_creation": [1]}, ALL_5M),
    ({**written(), "cache_creation": "none"}, ALL_5M),
    (written("many", **{M5: 4, M60: 5}), Usage(27, 275, 0, 4, 5)),
    (written(-1, **{M5: 4}), Usage(27, 275, 0, 4)),
    (written(10**12, **{M60: 5}), Usage(27, 275, 0, 0, 5)),
    (written(None), Usage(27, 275)),
    (written(None, **{M5: None, M60: 0}), Usage(27, 275)),
    # Reads.
    ({**PLAIN, "cache_read_input_tokens": 7}, Usage(27, 275, 7)),
    ({**PLAIN, "cache_read_input_tokens": 0}, Usage(27, 275)),
    ({**PLAIN, "cache_read_input_tokens": None}, Usage(27, 275)),
]
UNREADABLE: list[Any] = [
    None,
    [],
    "10",
    7,
    {},
    {"input_tokens": None, "output_tokens": 275},
    {"output_tokens": 275},
    *({**PLAIN, "input_tokens": value} for value in (-1, 1.5, "27", True, 10**9, [27], {"n": 27})),
    *({**PLAIN, "cache_read_input_tokens": value} for value in (-1, 1.5, "7", False, 10**9)),
    *({**PLAIN, "cache_creation_input_tokens": value} for value in (-1, 1.5, "7", True, 10**9, [7])),
    {**PLAIN, "cache_creation": 5},
    {**PLAIN, "cache_creation": {M60: "many"}},
    written(None, **{M5: -1}),
]


def whole(usage: Any) -> RelayEnd:
    """Read the usage of a whole answer with 50 bytes of text."""
    body = {"type": "message", "content": [{"type": "text", "text": "x" * 50}], "usage": usage}
    return whole_end(200, {}, json.dumps(body).encode())


def streamed(first: Any, *later: Any) -> RelayEnd:
    """Read the usage of a stream, by the figures of its events."""
    stream = RelayedStream()
    stream.read(sse(start(first), block(), delta("x" * 50), *(change(usage=usage) for usage in later), STOP))
    assert stream.ended
    return stream.end({})


@pytest.mark.parametrize(("usage", "expected"), TABLE)
def test_what_is_there_counts(usage: dict[str, Any], expected: Usage) -> None:
    assert whole(usage).usage == expected
    assert streamed(usage, {"output_tokens": usage["output_tokens"]}).usage == expected
    assert streamed({"input_tokens": 0, "output_tokens": 1}, usage).usage == expected
    prompt = shown_in_chat(usage)["prompt_tokens_details"]
    assert prompt == {"cached_tokens": expected.cache_read_tokens, "cache_write_tokens": expected.cache_write_tokens}
    assert shown_in_chat(usage)["total_tokens"] == expected.prompt_tokens + expected.output_tokens


@pytest.mark.parametrize("usage", UNREADABLE)
def test_a_prompt_that_can_t_be_known_is_never_free_and_the_answer_s_figure_stays(usage: Any) -> None:
    told = usage.get("output_tokens") if isinstance(usage, dict) else None
    for end in (whole(usage), streamed(usage, usage)):
        assert end.usage is None
        assert end.given_tokens == 275 if told else end.given_tokens > 0


@pytest.mark.parametrize("output_tokens", [None, 0, -1, 1.5, "275", True, 10**9, [275]])
def test_an_answer_that_is_not_counted_is_estimated_beside_a_prompt_that_is(output_tokens: Any) -> None:
    usage = {"input_tokens": 27, "output_tokens": output_tokens}
    assert streamed(usage, usage).usage == Usage(27, 20)
    found = whole(usage).usage
    assert found is not None and found.input_tokens == 27 and found.output_tokens >= 20


def test_the_beginning_s_figure_of_an_answer_is_a_lower_bound_and_no_more() -> None:
    assert streamed({**PLAIN, "output_tokens": 33}).usage == Usage(27, 33)
    assert streamed({**PLAIN, "output_tokens": 33}, {"output_tokens": 5}).usage == Usage(27, 5)


# Streams


@pytest.mark.parametrize("nothing", [0, None, -5, "27", 0.5, True, 10**12, {}, []])
@pytest.mark.parametrize(
    ("name", "read_as"),
    [
        ("input_tokens", Usage(27, 47)),
        ("cache_read_input_tokens", Usage(27, 47, 30)),
        ("cache_creation_input_tokens", Usage(27, 47, 0, 30)),
    ],
)
def test_a_later_zero_or_null_undoes_nothing(name: str, read_as: Usage, nothing: Any) -> None:
    first = {"input_tokens": 27, "output_tokens": 1, name: 27 if name == "input_tokens" else 30}
    assert streamed(first, {name: nothing, "output_tokens": 47}).usage == read_as
    assert (
        streamed(first, {name: nothing, "output_tokens": 47}, {name: nothing, "output_tokens": nothing}).usage
        == read_as
    )
    assert streamed({"input_tokens": 0, name: 0}, first, {name: nothing, "output_tokens": 47}).usage == read_as


@pytest.mark.parametrize("later", [None, {}, {M5: 0, M60: 0}, {M5: None}, 7, [], {M60: "all"}])
def test_a_later_breakdown_that_tells_nothing_undoes_none(later: Any) -> None:
    first = written(**{M60: 14_980})
    assert streamed(first, {"output_tokens": 275, "cache_creation": later}).usage == ALL_1H


def test_a_later_figure_is_the_last_word_be_it_larger_or_smaller() -> None:
    first = {"input_tokens": 30, "output_tokens": 1, "cache_read_input_tokens": 9, "cache_creation_input_tokens": 8}
    for change_by in (-2, 2):
        last = {name: count + change_by for name, count in first.items()} | {"output_tokens": 47}
        expected = Usage(30 + change_by, 47, 9 + change_by, 8 + change_by)
        assert streamed(first, last).usage == expected
    # A server that tells the whole prompt at first, and at last what of it came from the cache.
    assert streamed(PLAIN, {"input_tokens": 3, "cache_read_input_tokens": 24, "output_tokens": 9}).usage == Usage(
        3, 9, 24
    )


def test_what_was_counted_of_an_answer_is_final_until_more_of_it_comes() -> None:
    stream = RelayedStream()
    stream.read(sse(start(PLAIN), block(), delta("x" * 50)))
    assert not stream.so_far().final
    stream.read(sse(change(usage={"output_tokens": 13})))
    so_far = stream.so_far()
    assert so_far.final and so_far.usage == Usage(27, 13)
    stream.read(sse(block(index=1), delta("y" * 50, 1)))
    assert not stream.so_far().final
    assert stream.end({}).usage == Usage(27, 275)


FIGURES = st.one_of(st.none(), st.integers(-2, 50), st.sampled_from([1.5, "7", True, 10**12]))
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": FIGURES,
        "output_tokens": FIGURES,
        "cache_read_input_tokens": FIGURES,
        "cache_creation_input_tokens": FIGURES,
        "cache_creation": st.one_of(FIGURES, st.fixed_dictionaries({}, optional={M5: FIGURES, M60: FIGURES})),
    },
)


@given(OBJECTS, st.integers(0, 99))
def test_figures_are_never_below_what_was_told(counts: dict[str, Any], given_tokens: int) -> None:
    usage = usage_of(counts_of(json.dumps(counts).encode()), given_tokens)
    if usage is None:
        return
    told = [
        value for name, value in counts.items() if name != "cache_creation" and type(value) is int and 0 <= value <= 50
    ]
    members = counts.get("cache_creation")
    inner = list(members.values()) if isinstance(members, dict) else []
    assert usage.prompt_tokens + usage.output_tokens >= sum(told)
    assert usage.cache_write_tokens >= sum(value for value in inner if type(value) is int and 0 <= value <= 50)
    assert min(usage.input_tokens, usage.output_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) >= 0


@given(OBJECTS, OBJECTS)
def test_a_stream_s_later_figures_never_make_its_prompt_unreadable_or_free(first: Any, later: Any) -> None:
    again = {name: value for name, value in later.items() if name in first}
    before, after = usage_of(first, 1), usage_of(merged(first, again), 1)
    if before is not None:
        assert after is not None
        for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens"):
            assert getattr(after, name) > 0 or getattr(before, name) == 0


@given(st.lists(OBJECTS, max_size=4))
def test_a_stream_without_later_figures_is_what_its_first_said(events: list[dict[str, Any]]) -> None:
    counts = StreamCounts()
    counts.begin(PLAIN)
    for event in events:
        counts.go_on(dict.fromkeys(event, 0))
    assert counts.usage(5) == Usage(27, 275)


def test_dollars_follow_the_lifetimes() -> None:
    from tests.helpers.jobs import TERMS

    costs = [TERMS.models["sonnet"].cost_usd(usage) for usage in (ALL_5M, ALL_1H)]
    assert costs == [Decimal("0.040254"), Decimal("0.062724")]


# What is billed apart from the plain rates


@pytest.mark.parametrize(
    ("usage", "billed"),
    [
        ({"inference_geo": "us"}, ("inference_geo_us",)),
        ({"inference_geo": "eu-west"}, ("inference_geo_eu_west",)),
        ({"service_tier": "priority"}, ("service_tier_priority",)),
        ({"speed": "fast"}, ("speed_fast",)),
        ({"server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 0}}, ("web_search_requests",)),
        ({"iterations": [{"type": "message"}, {"type": "advisor_message"}]}, ("iterations_advisor_message",)),
        ({"inference_geo": "us", "speed": "fast"}, ("inference_geo_us", "speed_fast")),
        ({"speed": 7}, ("speed_unknown",)),
        ({"speed": "so\nfast"}, ("speed_unknown",)),
        ({"iterations": [5]}, ("iterations_unknown",)),
        (
            {
                "inference_geo": "global",
                "service_tier": "standard",
                "speed": "standard",
                "server_tool_use": None,
                "iterations": [{"type": "message"}],
            },
            (),
        ),
        ({"inference_geo": "not_available", "service_tier": None, "server_tool_use": {"web_search_requests": 0}}, ()),
        ({"iterations": None, "server_tool_use": 5, "inference_geo": None}, ()),
    ],
)
def test_what_is_billed_apart_is_read_from_any_event(usage: dict[str, Any], billed: tuple[str, ...]) -> None:
    expected = Usage(27, 275, billed_as=billed, web_searches=3 * ("web_search_requests" in billed))
    assert whole({**PLAIN, **usage}).usage == expected
    assert streamed({**PLAIN, **usage}, {"output_tokens": 275}).usage == expected
    assert streamed(PLAIN, {"output_tokens": 275, **usage}).usage == expected
    assert streamed({**PLAIN, **usage}, {"output_tokens": 275, **dict.fromkeys(usage)}).usage == expected


@pytest.mark.parametrize("kind", [[], {}, None, 5, "free text"])
def test_iterations_of_no_kind_are_billed_as_unknown(kind: Any) -> None:
    found = usage_of({**PLAIN, "iterations": [{"type": kind}, {"type": "message"}, kind]})
    assert found is not None and found.billed_as == ("iterations_unknown",)

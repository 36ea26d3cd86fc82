"""Counts of OpenAI-shaped "usage" objects, whole and in the chunks of a stream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.llm.chat_usage import ChatStreamCounts, chat_billed_as, chat_usage_of
from satmeter.actors.domain.pricing import Usage

PLAIN = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def cached(tokens: Any, **details: Any) -> dict[str, Any]:
    return {**PLAIN, "prompt_tokens_details": {"cached_tokens": tokens, **details}}


WHOLE: list[tuple[str, dict[str, Any], Usage | None]] = [
    ("plain", PLAIN, Usage(100, 20)),
    (
        "openai",
        {**cached(64, audio_tokens=0), "completion_tokens_details": {"reasoning_tokens": 12}},
        Usage(36, 20, 64),
    ),
    ("vllm without details", {**PLAIN, "prompt_tokens_details": None}, Usage(100, 20)),
    ("llama.cpp, all but one cached", cached(99), Usage(1, 20, 99)),
    ("all cached", cached(100), Usage(0, 20, 100)),
    ("deepseek", {**PLAIN, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}, Usage(36, 20, 64)),
    ("deepseek, both ways", {**cached(64), "prompt_cache_hit_tokens": 64}, Usage(36, 20, 64)),
    ("openrouter", {**cached(10, cache_write_tokens=50), "cost": 0.95, "is_byok": False}, Usage(40, 20, 10, 50)),
    (
        "litellm over anthropic",
        {**cached(10, cache_creation_tokens=50), "cache_creation_input_tokens": 50, "cache_read_input_tokens": 10},
        Usage(40, 20, 10, 50),
    ),
    (
        "litellm, for an hour",
        cached(
            10,
            cache_creation_tokens=50,
            cache_creation_token_details={"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        ),
        Usage(40, 20, 10, 20, 30),
    ),
    (
        "writes without their sum",
        {**PLAIN, "cache_creation": {"ephemeral_1h_input_tokens": 30}},
        Usage(70, 20, 0, 0, 30),
    ),
    ("xai: thoughts beside", {**PLAIN, "total_tokens": 420}, Usage(100, 320)),
    ("only the sum", {"prompt_tokens": 100, "total_tokens": 120}, Usage(100, 20)),
    ("a sum that is too small", {**PLAIN, "total_tokens": 100}, Usage(100, 20)),
    ("an absurd sum", {**PLAIN, "total_tokens": 10**12}, Usage(100, 20)),
    ("floats that are whole", {"prompt_tokens": 100.0, "completion_tokens": 20.0}, Usage(100, 20)),
    ("null", {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, None),
    ("empty", {}, None),
    ("no prompt", {"completion_tokens": 20, "total_tokens": 120}, None),
    ("ollama's cached prompt", {"prompt_tokens": 0, "completion_tokens": 20, "total_tokens": 20}, None),
    ("no answer", {"prompt_tokens": 100}, None),
    ("zero with text", {"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}, None),
    ("null answer", {"prompt_tokens": 100, "completion_tokens": None, "total_tokens": None}, None),
    ("negative prompt", {**PLAIN, "prompt_tokens": -100}, None),
    ("negative answer", {"prompt_tokens": 100, "completion_tokens": -1}, None),
    ("absurd prompt", {"prompt_tokens": 10**12, "completion_tokens": 20}, None),
    ("half a token", {"prompt_tokens": 100, "completion_tokens": 20.5}, None),
    ("words", {"prompt_tokens": "100", "completion_tokens": "20"}, None),
    ("more cached than there is", cached(101), None),
    ("anthropic's cache fields beside the prompt", {**PLAIN, "cache_read_input_tokens": 1_000}, None),
    ("unreadable cache", cached("many"), None),
    ("negative cache", cached(-5), None),
    ("one of two readable", {**cached("many"), "prompt_cache_hit_tokens": 64}, Usage(36, 20, 64)),
    ("details that are none", {**PLAIN, "prompt_tokens_details": [1]}, Usage(100, 20)),
]


@pytest.mark.parametrize(("counts", "usage"), [row[1:] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_a_whole_answer_s_usage(counts: dict[str, Any], usage: Usage | None) -> None:
    assert chat_usage_of(counts, given=True) == usage
    stream = ChatStreamCounts()
    stream.given(0)
    stream.finish(0)
    stream.take(counts, ())
    assert stream.whole() == usage


def test_an_empty_answer_may_have_no_tokens() -> None:
    counts = {"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}
    assert chat_usage_of(counts, given=False) == Usage(100, 0)
    assert chat_usage_of({"prompt_tokens": 100}, given=False) is None


@pytest.mark.parametrize(
    ("tier", "names"),
    [
        (None, ()),
        ("default", ()),
        ("on_demand", ()),
        ("flex", ("service_tier_flex",)),
        ("priority", ("service_tier_priority",)),
        ("words of anybody", ("service_tier_unknown",)),
        ([], ("service_tier_unknown",)),
    ],
)
def test_a_tier_with_rates_of_its_own_is_named(tier: Any, names: tuple[str, ...]) -> None:
    assert chat_billed_as(tier) == names


# Streams: "g0" gives more of choice 0, "f0" ends it, (prompt, answer, choices) is a usage object

Step = str | tuple[int | None, int | None, tuple[int, ...]]
STREAMS: list[tuple[str, list[Step], tuple[int, int] | None]] = [
    ("openai", ["g0", "f0", (18, 16, ())], (18, 16)),
    ("openai, n=2", ["g0", "g1", "f1", "f0", (18, 32, ())], (18, 32)),
    ("llama.cpp, n=2", ["g0", "g1", "f0", (18, 16, ()), "g1", "f1", (18, 15, ())], (18, 31)),
    ("on the last chunk", ["g0", "f0", (18, 16, (0,))], (18, 16)),
    ("on the last chunk and behind it", ["g0", "f0", (18, 16, (0,)), (18, 16, ())], (18, 16)),
    ("vllm, continuous", ["g0", (18, 1, (0,)), "g0", (18, 2, (0,)), "f0", (18, 2, (0,)), (18, 2, ())], (18, 2)),
    (
        "vllm, continuous, n=2",
        ["g0", (18, 1, (0,)), "g1", (18, 1, (1,)), "g0", (18, 2, (0,)), "f0", "g1", (18, 4, (1,)), "f1", (18, 6, ())],
        (18, 6),
    ),
    ("the same without the last", ["g0", (18, 2, (0,)), "f0", "g1", (18, 4, (1,)), "f1"], (18, 6)),
    ("one figure for both on the last chunk", ["g0", "g1", "f0", "f1", (18, 32, (1,))], (18, 32)),
    ("repeated at the end", ["g0", "f0", (18, 16, ()), (18, 16, ()), (18, 16, ())], (18, 16)),
    ("llama.cpp's last repeated", ["g0", "g1", "f0", (18, 16, ()), "f1", (18, 15, ()), (18, 15, ())], (18, 31)),
    ("growing, without choices", ["g0", (18, 1, ()), "g0", (18, 9, ()), "g0", "f0", (18, 16, ())], (18, 16)),
    ("growing, nothing finishes", ["g0", (18, 1, ()), "g0", (18, 9, ())], (18, 9)),
    ("corrected downwards", ["g0", (18, 40, (0,)), "f0", (18, 16, ())], (18, 16)),
    ("a zero or null behind it", ["g0", "f0", (18, 16, ()), (None, 0, ()), (18, None, ())], (18, 16)),
    ("without ends", ["g0", "g1", (18, 32, ())], (18, 32)),
    ("by choice without ends", ["g0", (18, 2, (0,)), "g1", (18, 4, (1,)), (18, 6, ())], (18, 6)),
    ("prompt first, answer last", ["g0", (18, None, (0,)), "g0", "f0", (None, 16, ())], (18, 16)),
    ("an empty answer", ["f0", (18, 0, ())], (18, 0)),
    ("nothing but usage", [(18, 0, ())], (18, 0)),
    ("missing", ["g0", "f0"], None),
    ("zero with text", ["g0", "f0", (18, 0, ())], None),
    ("only of the beginning", ["g0", (18, 1, (0,)), "g0", "f0"], None),
    ("of one of two", ["g0", "g1", "f0", (18, 16, ()), "g1", "f1"], None),
]


@pytest.mark.parametrize(("steps", "found"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
def test_a_stream_s_usage(steps: list[Step], found: tuple[int, int] | None) -> None:
    counted = fed(steps)
    assert counted.whole() == (None if found is None else Usage(*found))


def fed(steps: list[Step]) -> ChatStreamCounts:
    counted = ChatStreamCounts()
    for step in steps:
        match step:
            case str():
                (counted.given if step[0] == "g" else counted.finish)(int(step[1:]))
            case (prompt, output, choices):
                counted.take({"prompt_tokens": prompt, "completion_tokens": output}, choices)
    return counted


def test_usage_along_the_way_is_a_lower_bound_until_it_is_final() -> None:
    counted = ChatStreamCounts()
    counted.given(0)
    assert (counted.usage(), counted.final) == (None, False)
    counted.take({"prompt_tokens": 18, "completion_tokens": 1}, (0,))
    assert (counted.usage(), counted.final) == (Usage(18, 1), True)
    counted.given(0)
    assert (counted.usage(), counted.final, counted.whole()) == (Usage(18, 1), False, None)


@given(st.integers(1, 5), st.integers(1, 500), st.lists(st.integers(1, 50), min_size=5, max_size=5), st.data())
def test_one_figure_for_each_choice_in_any_order_adds_up_to_theirs(
    choices: int, prompt: int, answers: list[int], data: st.DataObject
) -> None:
    counted = ChatStreamCounts()
    for choice in range(choices):
        counted.given(choice)
    for choice in data.draw(st.permutations(range(choices))):
        counted.finish(choice)
        for _ in range(data.draw(st.integers(1, 3))):
            counted.take({"prompt_tokens": prompt, "completion_tokens": answers[choice]}, ())
    assert counted.whole() == Usage(prompt, sum(answers[:choices]))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=30), st.booleans())
def test_figures_with_each_piece_add_up_by_choice(pieces: list[tuple[int, int]], last: bool) -> None:
    counted, given_tokens = ChatStreamCounts(), {0: 0, 1: 0, 2: 0}
    for choice, tokens in pieces:
        given_tokens[choice] += tokens
        counted.given(choice)
        counted.take({"prompt_tokens": 7, "completion_tokens": given_tokens[choice]}, (choice,))
    total = sum(given_tokens.values())
    if last:
        for choice in {choice for choice, _ in pieces}:
            counted.finish(choice)
        counted.take({"prompt_tokens": 7, "completion_tokens": total}, ())
    assert counted.whole() == Usage(7, total)


FIGURES = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3), st.booleans())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": FIGURES,
            "completion_tokens": FIGURES,
            "total_tokens": FIGURES,
            "prompt_cache_hit_tokens": FIGURES,
            "cache_creation_input_tokens": FIGURES,
            "prompt_tokens_details": st.one_of(FIGURES, st.dictionaries(st.just("cached_tokens"), FIGURES)),
            "cache_creation": st.dictionaries(st.just("ephemeral_1h_input_tokens"), FIGURES),
        },
    ),
    st.booleans(),
)
def test_whatever_is_told_no_figure_is_negative_and_the_prompt_is_the_one_told(
    counts: dict[str, Any], was_given: bool
) -> None:
    usage = chat_usage_of(counts, given=was_given)
    if usage is None:
        return
    parts = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens)
    assert min(parts) >= 0 and usage.prompt_tokens == int(counts["prompt_tokens"]) > 0
    assert usage.output_tokens > 0 or not was_given

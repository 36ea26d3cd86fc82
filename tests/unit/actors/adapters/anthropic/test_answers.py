"""Verdicts, answers and usage: what is accepted as one, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.actors.adapters.anthropic.answers import read_completion, read_evaluation
from satmeter.actors.domain.pricing import Size, Usage
from satmeter.actors.ports import PermanentError, RefusedRequestError, TransientError

MODEL = "claude-haiku-5-5"
GOOD_USAGE = {"input_tokens": 10, "output_tokens": 5}
ACCEPT = {"reason": "It is a clear task.", "decision": "accept", "size": "small"}


def message(text: str, stop_reason: str | None = "end_turn", **changes: Any) -> bytes:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": GOOD_USAGE,
    }
    return json.dumps({**body, **changes}).encode()


def verdict(**changes: Any) -> str:
    return json.dumps({**ACCEPT, **changes})


@pytest.mark.parametrize(("decision", "accepted"), [("accept", True), ("reject", False)])
@pytest.mark.parametrize("size", list(Size))
def test_a_verdict_is_read_with_its_reason_size_and_usage(decision: str, accepted: bool, size: Size) -> None:
    found = read_evaluation(message(verdict(decision=decision, size=size)), MODEL)
    assert found.verdict.accepted is accepted
    assert found.verdict.size is size
    assert found.verdict.reason == ACCEPT["reason"]
    assert (found.model, found.usage) == (MODEL, Usage(10, 5))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accept",
        "null",
        "[]",
        "{}",
        '{"decision": "accept"}',
        json.dumps({"decision": "accept", "size": "small"}),
        json.dumps({"reason": "Fine.", "size": "small"}),
        json.dumps({"reason": "Fine.", "decision": "accept"}),
        verdict(decision="ACCEPT"),
        verdict(decision="maybe"),
        verdict(decision=True),
        verdict(decision=None),
        verdict(decision=["accept"]),
        verdict(size="huge"),
        verdict(size=1),
        verdict(reason=None),
        verdict(reason=""),
        verdict(reason=" \n\t\x00 "),
        verdict(surprise=1),
        verdict() + verdict(),
        verdict()[:-1],
        f"Here is my verdict:\n{verdict()}",
        f"```json\n{verdict()}\n```",
        "[" * 100_000,
    ],
)
def test_an_unreadable_verdict_is_never_an_acceptance(text: str) -> None:
    with pytest.raises(TransientError):
        read_evaluation(message(text), MODEL)


@pytest.mark.parametrize(
    "stop_reason",
    ["refusal", "max_tokens", "tool_use", "pause_turn", "model_context_window_exceeded", "stop_sequence", ""],
)
def test_a_verdict_that_did_not_end_by_itself_is_never_an_acceptance(stop_reason: str) -> None:
    with pytest.raises(TransientError):
        read_evaluation(message(verdict(), stop_reason), MODEL)


def test_a_verdict_counts_without_readable_usage() -> None:
    assert read_evaluation(message(verdict(), usage=None), MODEL).usage is None


def test_a_reason_becomes_one_short_line_without_control_or_direction_characters() -> None:
    reason = "Line one\r\n\tline\u2028two \x1b[31mred\u202eevil\u0000 " + "x" * 1_000
    found = read_evaluation(message(verdict(reason=reason)), MODEL).verdict.reason
    assert found.startswith("Line one line two [31mred evil x")
    assert len(found) == 300
    assert found.isprintable()


def test_an_answer_joins_its_text_blocks_and_passes_thinking_over() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "One, "},
        {"type": "redacted_thinking", "data": "…"},
        {"type": "something_new", "text": "not for the client"},
        {"type": "text", "text": "two.", "citations": None},
    ]
    found = read_completion(message("", content=content), MODEL)
    assert (found.text, found.stop_reason, found.model, found.usage) == ("One, two.", "end_turn", MODEL, Usage(10, 5))


def test_a_completion_carries_the_model_that_was_asked_for_because_that_one_has_a_price() -> None:
    assert read_completion(message("Done.", model="claude-haiku-5-5-20261007"), MODEL).model == MODEL


def test_an_answer_that_was_cut_off_is_an_answer() -> None:
    assert read_completion(message("As far as", "max_tokens"), MODEL).stop_reason == "max_tokens"


def test_a_refusal_without_output_is_final_and_what_was_written_before_one_is_an_answer() -> None:
    with pytest.raises(RefusedRequestError):
        read_completion(message("", "refusal"), MODEL)
    begun = read_completion(message("I could", "refusal"), MODEL)
    assert (begun.text, begun.stop_reason) == ("I could", "refusal") and begun.usage is not None


def test_running_out_of_tokens_before_the_first_word_is_final_because_a_repetition_would_do_the_same() -> None:
    with pytest.raises(PermanentError):
        read_completion(message(" \n", "max_tokens"), MODEL)


def test_an_empty_answer_may_be_asked_for_again() -> None:
    with pytest.raises(TransientError):
        read_completion(message(""), MODEL)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"\xff\xfe",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"type":"message","content":' + b"[" * 100_000,
        json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}).encode(),
        message("x", type="completion"),
        message("x", content=None),
        message("x", content="x"),
        message("x", content=[{"type": "text"}]),
        message("x", content=[{"type": "text", "text": 5}]),
        message("x", content=[{"text": "x"}]),
        message("x", stop_reason=None),
    ],
)
def test_rubbish_instead_of_an_answer_may_be_asked_for_again(body: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        read_completion(body, MODEL)
    assert caught.value.__cause__ is None
    with pytest.raises(TransientError):
        read_evaluation(body, MODEL)


@pytest.mark.parametrize("usage", [None, [], "10", {}, {"output_tokens": 10}, {**GOOD_USAGE, "input_tokens": -1}])
def test_unreadable_usage_is_none_and_the_answer_still_counts(usage: Any) -> None:
    found = read_completion(message("Done.", usage=usage), MODEL)
    assert (found.text, found.usage) == ("Done.", None)


@pytest.mark.parametrize("output_tokens", [None, 0, -1, "5", True])
def test_an_answer_whose_own_figure_is_missing_is_estimated_beside_the_prompt_s(output_tokens: Any) -> None:
    found = read_completion(message("x" * 50, usage={"input_tokens": 10, "output_tokens": output_tokens}), MODEL)
    assert found.usage == Usage(10, 20)


def test_an_answer_without_usage_still_counts() -> None:
    body = json.loads(message("Done."))
    del body["usage"]
    assert read_completion(json.dumps(body).encode(), MODEL).usage is None

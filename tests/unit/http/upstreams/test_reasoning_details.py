"""Details of thoughts: pieces of one text are joined, and all else stays as it came."""

from __future__ import annotations

from typing import Any

from satmeter.http.upstreams.chat_answer import completion_of
from satmeter.http.upstreams.reasoning_details import ReasoningDetails
from tests.helpers.chat_answers import completion, tool_call
from tests.helpers.signed_answers import ENCRYPTED, GOOGLE, OF_CALL, SIGNED_TEXT, TEXT

Json = dict[str, Any]


def joined(*details: Json) -> list[Json]:
    return ReasoningDetails(details).taken()


def test_pieces_of_a_text_are_joined_up_to_its_signature() -> None:
    pieces = [{**TEXT, "text": "Let me "}, {**TEXT, "text": "look."}, {**TEXT, "text": "", "signature": "EqQBCgIYAhIM"}]
    assert joined(*pieces) == [SIGNED_TEXT]
    assert joined(*pieces, *pieces) == [SIGNED_TEXT, SIGNED_TEXT]
    assert joined(*joined(*pieces[:2]), pieces[2]) == [SIGNED_TEXT]


def test_details_of_another_kind_place_or_id_stay_apart_and_so_does_what_is_encrypted() -> None:
    other = [{**TEXT, "text": "a"}, {**TEXT, "text": "b", "index": 1}, {"type": "reasoning.summary", "summary": "c"}]
    assert joined(*other) == other
    named = [{**TEXT, "text": "a", "id": "1"}, {**TEXT, "text": "b", "id": "2"}]
    assert joined(*named) == named
    assert joined(ENCRYPTED, ENCRYPTED, OF_CALL) == [ENCRYPTED, ENCRYPTED, OF_CALL]
    assert joined({"type": ["odd"]}, {}, {"type": None, "text": 7}) == [
        {"type": ["odd"]},
        {},
        {"type": None, "text": 7},
    ]


def test_a_thought_that_stands_in_its_details_alone_is_one() -> None:
    piece = completion_of(completion(content="Hi", reasoning_details=[SIGNED_TEXT, ENCRYPTED, "odd", None])).piece
    assert (piece.thought, piece.thought_field, piece.details) == ("Let me look.", "", (SIGNED_TEXT, ENCRYPTED))
    assert completion_of(completion(content="Hi", reasoning_details={"odd": 1})).piece.details == ()


def test_a_call_has_the_members_that_are_signed() -> None:
    calls = [tool_call("f", "{}", **GOOGLE), tool_call("g", "{}", extra_content="odd", provider_specific_fields={})]
    first, second = completion_of(completion("tool_calls", tool_calls=calls)).piece.calls
    assert (first.signed, second.signed) == (GOOGLE, {})

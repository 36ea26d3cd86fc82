"""Chat completions as messages, whole and streamed, in the types of Anthropic's own SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.responses.thoughts import ChatThought, sealed
from satmeter.http.upstreams.provider_call import UnreadableAnswerError
from tests.helpers.chat_answers import MODEL, chat_sse, chunk, completion, counted, tool_call
from tests.helpers.messages_over_chat import COST, THINKS, gathered, streamed, whole

Json = dict[str, Any]
ROLE = chunk(role="assistant", content=None)
USAGE = {
    "input_tokens": 13,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 20,
    "output_tokens_details": {"thinking_tokens": 6},
    **COST,
}


def blocks(message: Any) -> list[Json]:
    """The blocks with the fields that hold something."""
    return [block.to_dict() for block in message.content]


def test_a_text_is_a_message_with_its_usage_and_its_cost() -> None:
    found = whole(completion(content="Hi"))
    assert (found.id, found.model, found.stop_reason) == ("msg_1", MODEL, "end_turn")
    assert blocks(found) == [{"type": "text", "text": "Hi"}]
    assert found.usage.to_dict() == USAGE


def test_a_stream_has_the_events_of_the_messages_api() -> None:
    events = streamed(chat_sse(ROLE, chunk(content="Hel"), chunk(content="lo"), chunk("stop"), counted()))
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["usage"]["input_tokens"] == 0
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"] == USAGE


@pytest.mark.parametrize(
    ("finish", "message", "reason"),
    [
        ("stop", {"content": "x"}, "end_turn"),
        ("length", {"content": "x"}, "max_tokens"),
        ("model_length", {"content": "x"}, "max_tokens"),
        ("tool_calls", {"tool_calls": [tool_call("f", "{}")]}, "tool_use"),
        ("stop", {"tool_calls": [tool_call("f", "{}")]}, "tool_use"),
        ("length", {"tool_calls": [tool_call("f", "{")]}, "max_tokens"),
        ("content_filter", {"content": ""}, "refusal"),
        ("stop", {"refusal": "No."}, "refusal"),
        ("abort", {"content": "x"}, "end_turn"),
        (None, {"content": "x"}, "max_tokens"),
    ],
)
def test_each_end_has_its_reason(finish: str | None, message: Json, reason: str) -> None:
    assert whole(completion(finish, **message)).stop_reason == reason
    calls = [{**call, "index": 0} for call in message.get("tool_calls", [])]
    delta = {**message, **({"tool_calls": calls} if calls else {})}
    assert gathered(streamed(chat_sse(chunk(**delta), chunk(finish), counted()))).stop_reason == reason


def test_a_refusal_is_explained() -> None:
    found = whole(completion("stop", refusal="I can't."))
    assert found.stop_details is not None and found.stop_details.explanation == "I can't."
    assert blocks(found) == [{"type": "text", "text": "I can't."}]


def test_thoughts_come_first_with_a_signature_by_which_they_are_known_again() -> None:
    signature = sealed(ChatThought("", "reasoning_content", MODEL))
    thought = {"type": "thinking", "thinking": "Hm. So.", "signature": signature}
    found = whole(completion(content="Hi", reasoning_content="Hm. So."), **THINKS)
    assert blocks(found) == [thought, {"type": "text", "text": "Hi"}]
    pieces = [chunk(reasoning_content="Hm. "), chunk(reasoning_content="So."), chunk(content="Hi"), chunk("stop")]
    assert blocks(gathered(streamed(chat_sse(*pieces), **THINKS))) == blocks(found)


@pytest.mark.parametrize("fields", [{}, {"thinking": {"type": "adaptive", "display": "omitted"}}])
def test_thoughts_are_shown_to_those_who_asked_for_them(fields: Json) -> None:
    assert blocks(whole(completion(content="Hi", reasoning_content="Hm."), **fields)) == [
        {"type": "text", "text": "Hi"}
    ]


STOPPED = [
    ({"stop_reason": "END"}, {}, "stop_sequence", "END"),
    ({"matched_stop": "END"}, {}, "stop_sequence", "END"),
    # A token, the model's own end, another's, none.
    ({"matched_stop": 163586}, {}, "end_turn", None),
    ({"stop_reason": "<|im_end|>"}, {}, "end_turn", None),
    ({"stop_reason": None}, {}, "end_turn", None),
    ({}, {}, "end_turn", None),
    ({"stop_reason": "END", "finish_reason": "length"}, {}, "max_tokens", None),
    ({"stop_reason": "END"}, {"tool_calls": [tool_call("f", "{}")]}, "tool_use", None),
]


@pytest.mark.parametrize(("choice", "message", "reason", "sequence"), STOPPED)
def test_a_stop_sequence_is_told_where_the_upstream_says_which_one_it_was(
    choice: Json, message: Json, reason: str, sequence: str | None
) -> None:
    told: Json = {"stop_sequences": ["\n\n", "END"]}
    body = json.loads(completion(content="Hi", **message))
    body["choices"][0] |= choice
    found = whole(json.dumps(body).encode(), **told)
    assert (found.stop_reason, found.stop_sequence) == (reason, sequence)
    last = chunk("stop", **({"tool_calls": [{"index": 0, **message["tool_calls"][0]}]} if message else {}))
    last["choices"][0] |= choice
    events = streamed(chat_sse(ROLE, chunk(content="Hi"), last, counted()), **told)
    assert events[-2]["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_calls_have_ids_of_this_api_and_their_input() -> None:
    calls = [tool_call("f", '{"a": 1}', "call_1"), tool_call("g", "", "functions.g:0"), tool_call("h", "{", "call_1")]
    found = whole(completion("tool_calls", content="Let me see.", tool_calls=calls))
    assert blocks(found) == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "toolu_call_1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "toolu_functions_g_0", "name": "g", "input": {}},
        {"type": "tool_use", "id": "toolu_call_1_2", "name": "h", "input": {"arguments": "{"}},
    ]


def piece(index: int, arguments: str, name: str = "", call_id: str = "") -> Json:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return chunk(tool_calls=[{"index": index, "function": function, **({"id": call_id} if call_id else {})}])


def test_calls_that_arrive_at_once_come_one_after_the_other() -> None:
    events = streamed(
        chat_sse(
            piece(0, "", "f", "a"),
            piece(1, '{"b":', "g", "b"),
            piece(0, '{"a":'),
            chunk(content="Wait."),
            piece(1, "2}"),
            piece(0, "1}"),
            chunk("tool_calls"),
            counted(),
        )
    )
    assert [(block.get("name"), block.get("input"), block.get("text")) for block in blocks(gathered(events))] == [
        ("f", {"a": 1}, None),
        ("g", {"b": 2}, None),
        (None, None, "Wait."),
    ]


def test_a_call_is_given_piece_by_piece_as_it_comes() -> None:
    events = streamed(chat_sse(piece(0, "", "f", "a"), piece(0, '{"a"'), piece(0, ":1}"), chunk("tool_calls")))
    deltas = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert deltas == ['{"a"', ":1}"]


def test_an_answer_without_usage_shows_what_was_charged() -> None:
    assert whole(completion(content="Hi", usage=None)).usage.to_dict()["input_tokens"] == 3
    (*_, delta, _) = streamed(chat_sse(chunk(content="Hi"), chunk("stop")))
    assert (delta["usage"]["input_tokens"], delta["usage"]["output_tokens"]) == (3, 4)


def test_an_answer_that_its_client_left_ends_where_it_was() -> None:
    found = gathered(streamed(chat_sse(chunk(content="Hel"), done=False)))
    assert (found.stop_reason, blocks(found)) == ("max_tokens", [{"type": "text", "text": "Hel"}])
    assert gathered(streamed(b"")).content == []


def test_an_empty_answer_is_a_message() -> None:
    assert whole(completion(content="")).content == []


def test_what_is_not_a_completion_is_not_an_answer() -> None:
    with pytest.raises(UnreadableAnswerError):
        whole(b'{"object":"list"}')

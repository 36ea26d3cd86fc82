"""Answers of chat completions, whole and in chunks, with the deviations of the servers that give them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.upstreams.chat_answer import CallNumbers, CallPiece, Chunk, ChunkReader, Piece, completion_of
from satmeter.http.upstreams.provider_call import UnreadableAnswerError

Json = dict[str, Any]


def whole(message: Json, **fields: Any) -> Chunk:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return completion_of(json.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice], **fields}).encode())


def chunks(*shown: Any, reader: ChunkReader | None = None) -> list[Chunk]:
    found = reader or ChunkReader()
    return [chunk for one in shown for chunk in found.read(b"data: %b\n\n" % json.dumps(one).encode())]


def chunk(delta: Json | None, **fields: Any) -> Json:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    return {"id": "chatcmpl-1", "model": "m", "choices": choices, **fields}


def test_a_whole_answer_has_its_message_and_its_usage() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {"role": "assistant", "content": "Hi", "refusal": None, "tool_calls": [call]}
    assert whole(message, usage={"prompt_tokens": 3}) == Chunk(
        "chatcmpl-1",
        "m",
        (0,),
        Piece("", "Hi", "", (CallPiece(None, "call_1", "f", '{"a":1}'),), "stop"),
        {"prompt_tokens": 3},
    )


@pytest.mark.parametrize(
    ("message", "piece"),
    [
        ({"content": None}, Piece(finish_reason="stop")),
        (
            {"content": "x", "reasoning_content": "t"},
            Piece("t", "x", finish_reason="stop", thought_field="reasoning_content"),
        ),
        ({"content": "x", "reasoning": "t"}, Piece("t", "x", finish_reason="stop", thought_field="reasoning")),
        (
            {"content": "x", "reasoning": "t", "reasoning_content": "t"},
            Piece("t", "x", finish_reason="stop", thought_field="reasoning_content"),
        ),
        ({"content": None, "refusal": "No."}, Piece(refusal="No.", finish_reason="stop")),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                    {"type": "text", "text": "x"},
                    {"type": "text", "text": "y"},
                ]
            },
            Piece("t", "xy", finish_reason="stop"),
        ),
        (
            {"content": "", "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}, 5]},
            Piece(calls=(CallPiece(0, "", "f", '{"a":1}'),), finish_reason="stop"),
        ),
        (
            {"tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "g", "input": "x"}}]},
            Piece(calls=(CallPiece(None, "c", "g", "x"),), finish_reason="stop"),
        ),
        ({"content": 5, "tool_calls": "none", "reasoning": []}, Piece(finish_reason="stop")),
    ],
)
def test_a_message_is_read_as_each_server_writes_it(message: Json, piece: Piece) -> None:
    assert whole(message).piece == piece


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{"message":5}]}', b'{"choices":[5]}', b'{"error":{}}', b"<"],
)
def test_a_body_without_a_message_is_not_an_answer(body: bytes) -> None:
    with pytest.raises(UnreadableAnswerError):
        completion_of(body)


def test_chunks_are_read_until_the_end_mark() -> None:
    reader = ChunkReader()
    found = chunks(
        chunk({"role": "assistant", "content": None}), chunk({"content": "H"}, usage=None), reader=reader
    ) + chunks(chunk(None, usage={"prompt_tokens": 3}), reader=reader)
    assert [(shown.choices, shown.piece.text, shown.usage) for shown in found] == [
        ((0,), "", None),
        ((0,), "H", None),
        ((), "", {"prompt_tokens": 3}),
    ]
    assert not reader.done
    assert list(reader.read(b"data: [DONE]\n\n")) == [] and reader.done


def test_the_first_choice_is_the_one_of_index_0_in_any_order() -> None:
    choices = [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]
    (found,) = chunks({"choices": choices})
    assert (found.choices, found.piece.text) == ((1, 0), "a")


def test_what_is_not_a_chunk_is_skipped() -> None:
    reader = ChunkReader()
    sent = b': ping\n\ndata: {"error":{"message":"x"}}\n\nevent: x\ndata:{\ndata: 5\n\ndata:{"choices":[]}\r\n\r\n'
    assert len(list(reader.read(sent))) == 1


def test_bytes_may_be_cut_anywhere() -> None:
    sent = "".join(f"data: {json.dumps(chunk({'content': word}))}\r\n\r\n" for word in ("é", "\n", "x")).encode()
    for size in range(1, 9):
        reader = ChunkReader()
        found = [one.piece.text for at in range(0, len(sent), size) for one in reader.read(sent[at : at + size])]
        assert "".join(found) == "é\nx"


@pytest.mark.parametrize(
    ("pieces", "numbers"),
    [
        # By index, as OpenAI does.
        ([(0, "a", "f"), (0, "", ""), (1, "b", "g"), (0, "", "")], [0, 0, 1, 0]),
        # The id is repeated with each piece.
        ([(0, "a", "f"), (0, "a", ""), (1, "b", "g")], [0, 0, 1]),
        # All have the same index, or none.
        ([(0, "a", "f"), (0, "b", "f")], [0, 1]),
        ([(None, "a", "f"), (None, "", ""), (None, "b", "f"), (None, "", "")], [0, 0, 1, 1]),
        ([(None, "", "f"), (None, "", ""), (None, "", "f")], [0, 0, 1]),
        # The id comes later than the name, and numbers may begin anywhere.
        ([(3, "", "f"), (3, "a", ""), (7, "b", "g")], [0, 0, 1]),
    ],
)
def test_a_call_is_known_by_its_index_or_by_a_name_of_its_own(pieces: Any, numbers: list[int]) -> None:
    found = CallNumbers()
    made = [found.of(CallPiece(index, call_id, name, "")) for index, call_id, name in pieces]
    assert [number for number, _ in made] == numbers
    assert [begins for _, begins in made] == [number not in numbers[:at] for at, number in enumerate(numbers)]

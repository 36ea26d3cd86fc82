"""A streamed chat completion and a whole one are the same message, in any order and however the bytes are cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from satmeter.http.anthropic.over_chat.answer import MessageStream
from tests.helpers.chat_answers import chat_sse, chunk, completion, counted
from tests.helpers.messages_over_chat import CHARGED, COST, THINKS, asked, events_in, gathered, whole

Json = dict[str, Any]
words = st.text(max_size=8)
arguments = st.dictionaries(words, st.none() | st.integers(-9, 9) | words, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Json, list[Json]]:
    """A message, and chunks that hold it, its parts in any order and of any size."""
    thought, text = draw(words), draw(words)
    calls = draw(st.lists(arguments, max_size=3))
    streams: list[list[Json]] = [
        [chunk(reasoning_content=piece) for piece in cut(draw, thought)],
        [chunk(content=piece) for piece in cut(draw, text)],
    ]
    whole_calls = []
    for number, given_arguments in enumerate(calls):
        encoded = json.dumps(given_arguments)
        function = {"name": f"f{number}", "arguments": encoded}
        whole_calls.append({"id": f"c{number}", "type": "function", "function": function})
        begun = {"index": number, "id": f"c{number}", "function": {"name": f"f{number}", "arguments": ""}}
        more = [{"index": number, "function": {"arguments": piece}} for piece in cut(draw, encoded)]
        streams.append([chunk(tool_calls=[piece]) for piece in (begun, *more)])
    chunks: list[Json] = []
    while waiting := [stream for stream in streams if stream]:
        chunks.append(draw(st.sampled_from(waiting)).pop(0))
    return {"reasoning_content": thought, "content": text, "tool_calls": whole_calls}, chunks


def cut(draw: st.DrawFn, text: str) -> list[str]:
    edges = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[begin:end] for begin, end in zip([0, *edges], [*edges, len(text)], strict=True)]


def parts(message: Any) -> tuple[str, str, list[Any]]:
    """The thoughts, the text and the calls, whichever blocks they stand in."""
    blocks = [block.to_dict() for block in message.content]
    calls = [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
    thought = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    return thought, "".join(block["text"] for block in blocks if block["type"] == "text"), sorted(calls)


@settings(max_examples=150, deadline=None)
@given(answers(), st.lists(st.integers(0, 5_000), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_no_order_loses_anything_and_no_cut_changes_anything(
    answer: tuple[Json, list[Json]], places: list[int], newline: str
) -> None:
    message, chunks = answer
    sent = chat_sse(*chunks, chunk("stop"), counted(), newline=newline)
    found = MessageStream(asked(**THINKS))
    edges = sorted(place % (len(sent) + 1) for place in places)
    given_events = b"".join(
        found.read(sent[begin:end]) for begin, end in zip([0, *edges], [*edges, len(sent)], strict=True)
    )
    at_once = MessageStream(asked(**THINKS))
    assert at_once.read(sent) == given_events, "borders show"
    streamed = gathered(events_in(given_events + found.end(CHARGED, COST)))
    assert parts(streamed) == parts(whole(completion(**message), **THINKS))
    assert streamed.stop_reason == ("tool_use" if message["tool_calls"] else "end_turn")

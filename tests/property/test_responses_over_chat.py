"""Responses over chat completions: borders of bytes don't show, and no item of a request is lost in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from satmeter.actors.domain.errors import RefusedError
from satmeter.http.responses.over_chat.answer import response
from satmeter.http.responses.over_chat.stream import ChatResponseStream
from satmeter.http.responses.thoughts import ChatThought, sealed
from tests.helpers.chat_answers import MODEL, USAGE, chat, chat_sse, chunk, completion, counted, cut, tool_call
from tests.helpers.responses import AGENTS, ENCRYPTED, FUNCTION, PATCH, Json

AT_S = 1_790_000_000
REQUEST: Json = {"tools": [FUNCTION, PATCH, AGENTS], "reasoning": {"summary": "auto"}, **ENCRYPTED}
words = st.text(max_size=12)
values = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words, max_size=3)
# (name, arguments): those of custom tools are one text.
calls = st.one_of(
    st.tuples(st.sampled_from(["weather", "agents__close", "unknown"]), values.map(json.dumps)),
    st.tuples(st.sampled_from(["apply_patch", "agents__tell"]), words.map(lambda text: json.dumps({"input": text}))),
)


class Answer:
    """An answer, whole and in chunks."""

    def __init__(self, thought: str, text: str, calls: list[tuple[str, str]], finish: str, field: str) -> None:
        self.said = {field: thought, "content": text}
        self.calls = calls
        self.finish = finish

    def whole(self) -> bytes:
        """Return it as one body."""
        made = [tool_call(name, arguments, f"c{number}") for number, (name, arguments) in enumerate(self.calls)]
        return completion(self.finish, USAGE, **self.said, tool_calls=made or None)

    def chunks(self, places: list[int]) -> Iterator[Json]:
        """Yield its chunks, cut at these places."""
        yield chunk(role="assistant", content="")
        for field, text in self.said.items():
            for piece in pieces(text, places):
                yield chunk(**{field: piece})
        for number, (name, arguments) in enumerate(self.calls):
            yield chunk(tool_calls=[tool_call(name, "", f"c{number}", index=number)])
            for piece in pieces(arguments, places):
                yield chunk(tool_calls=[{"index": number, "function": {"arguments": piece}}])
        yield chunk(self.finish)
        yield counted()


def pieces(text: str, places: list[int]) -> Iterator[str]:
    """Cut a text at these places."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return (text[begin:end] for begin, end in pairwise(edges))


answers = st.builds(
    Answer,
    words,
    words,
    st.lists(calls, max_size=3),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    st.sampled_from(["reasoning", "reasoning_content"]),
)


def made() -> ChatResponseStream:
    return ChatResponseStream(chat(**REQUEST).wanted, MODEL, AT_S, "req_1")


@settings(max_examples=150, deadline=None)
@given(answers, st.lists(st.integers(0, 5_000), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_stream_says_what_the_whole_answer_says_wherever_it_is_cut(
    answer: Answer, places: list[int], newline: str
) -> None:
    sent = chat_sse(*answer.chunks(places), newline=newline)
    stream, uncut = made(), made()
    shown = b"".join(stream.read(piece) for piece in cut(sent, places))
    assert shown == uncut.read(sent), "borders show"
    *_, last = stream.end({}).decode().strip().split("\n")
    whole = json.loads(response(answer.whole(), chat(**REQUEST).wanted, MODEL, AT_S, {}))
    assert json.loads(last.removeprefix("data: "))["response"] == whole


@settings(max_examples=50, deadline=None)
@given(answers)
def test_nothing_is_held_back_that_has_come(answer: Answer) -> None:
    stream = made()
    for shown in answer.chunks([3, 6]):
        delta = shown["choices"][0]["delta"] if shown["choices"] else {}
        found = stream.read(chat_sse(shown, done=False))
        if any(delta.get(name) for name in ("reasoning", "reasoning_content", "content")):
            assert found, shown


# Requests

IMAGE = "data:image/png;base64,iVBORw0KGgo"
NAMES = st.sampled_from(["weather", "close", "unknown"])


@st.composite
def items(draw: st.DrawFn) -> tuple[list[Json], list[str]]:
    """Items, and a word in each of their parts that no other part has."""
    made: list[Json] = [{"role": "user", "content": "w0w"}]
    marks = ["w0w"]

    def word() -> str:
        marks.append(f"w{len(marks)}w")
        return marks[-1]

    def parts(kind: str) -> Any:
        text = {"type": kind, "text": word()}
        match draw(st.sampled_from(["string", "list", "image"])):
            case "image" if kind == "input_text":
                return [text, {"type": "input_image", "image_url": f"{IMAGE}{word()}"}]
            case "string":
                return text["text"]
        return [text]

    for number in range(draw(st.integers(0, 6))):
        match draw(
            st.sampled_from(["user", "assistant", "developer", "system", "call", "custom", "result", "thought"])
        ):
            case "user":
                made.append({"role": "user", "content": parts("input_text")})
            case "assistant":
                made.append({"role": "assistant", "content": parts("output_text")})
            case "developer" | "system" as role:
                made.append({"role": role, "content": word()})
            case "call":
                given = json.dumps({"a": word()})
                made.append({"type": "function_call", "call_id": word(), "name": draw(NAMES), "arguments": given})
            case "custom":
                made.append({"type": "custom_tool_call", "call_id": word(), "name": "apply_patch", "input": word()})
            case "result":
                called = [item["call_id"] for item in made if item.get("type") in ("function_call", "custom_tool_call")]
                call_id = draw(st.sampled_from(called)) if bool(called) and draw(st.booleans()) else f"none{number}"
                kind = draw(st.sampled_from(["function_call_output", "custom_tool_call_output"]))
                made.append({"type": kind, "call_id": call_id, "output": parts("input_text")})
            case "thought":
                model = draw(st.sampled_from([MODEL, "another"]))
                seal = sealed(ChatThought(model, "reasoning", model))
                made.append({"type": "reasoning", "id": model, "summary": [], "encrypted_content": seal})
    return made, marks


@settings(max_examples=300, deadline=None)
@given(items())
def test_every_item_is_in_the_body_or_is_refused(found: tuple[list[Json], list[str]]) -> None:
    given_items, marks = found
    called = {item["call_id"] for item in given_items if item.get("type") in ("function_call", "custom_tool_call")}
    try:
        asked = chat(**{**REQUEST, "input": given_items})
    except RefusedError as error:
        (field,) = error.refusal.details["fields"]
        number = int(field["path"].removeprefix("input[").partition("]")[0])
        assert given_items[number]["type"].endswith("_output"), "only a result without its call"
        before = {item.get("call_id") for item in given_items[:number] if item.get("type", "").endswith("_call")}
        assert given_items[number]["call_id"] not in before
        return
    sent = json.dumps(asked.body)
    assert [mark for mark in marks if mark not in sent] == []
    roles = [message["role"] for message in asked.body["messages"]]
    assert "system" not in roles[1:]
    assert not any(first == second == "user" for first, second in pairwise(roles))
    results = {message["tool_call_id"] for message in asked.body["messages"] if message["role"] == "tool"}
    assert results <= called
    foreign = [item for item in given_items if item.get("type") == "reasoning" and item["id"] == "another"]
    assert bool(foreign) == ("input[].reasoning" in asked.ignored)
    assert "another" not in sent

"""The reader of streamed chat completions takes any bytes, however they are cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.openai.stream import ChatStream
from satmeter.actors.domain.llm.reported_usage import reading_of
from satmeter.actors.domain.pricing import Usage
from tests.helpers.chat_upstream import COUNTED, DONE, STOP, WHOLE_STREAM, choice, chunk, sse

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "usage", "error", "index", "content", "tool_calls", "x_groq"]), inner
        )
    ),
    max_leaves=12,
)


def read(*chunks: bytes) -> tuple[str, Usage | None, bool, Any]:
    stream = ChatStream()
    text = "".join(piece.text + piece.beside for data in chunks for piece in stream.read(data))
    text += "".join(piece.text + piece.beside for piece in stream.at_end())
    return text, stream.counted.whole(), stream.ended, stream.error


@given(st.lists(st.integers(0, 2_000), max_size=12))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    sent = sse(*WHOLE_STREAM)
    at = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    chunks = [sent[begin:end] for begin, end in pairwise(at)]
    assert read(*chunks) == read(sent) == ("Héllo, wörld 🌍", Usage(18, 16), True, None)


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from(["choices", "usage", "error", "object"]), JSON))
def test_nothing_breaks_the_reader(noise: bytes, event: dict[str, Any]) -> None:
    read(noise, sse(event), noise, sse(chunk(choice("x")), STOP, COUNTED, DONE))
    read(sse(chunk(event)), b"error: " + noise)


@pytest.mark.parametrize("half", [b'"\\ud83d"', b'"\xf0\x9f"'])
def test_half_a_character_beside_the_figures_takes_none_of_them(half: bytes) -> None:
    counted = (
        sse(COUNTED)
        .replace(b"data: {", b'data: {"note":' + half + b",")
        .replace(b'"usage": {', b'"usage": {"tier":' + half + b",")
    )
    assert counted.count(half) == 2
    stream = ChatStream()
    stream.read(sse(chunk(choice("x")), STOP) + counted + sse(DONE))
    report = stream.reported(ended=True)
    assert stream.counted.whole() == Usage(18, 16) == reading_of(report)
    assert not report.cut


def test_an_endless_line_is_not_kept() -> None:
    stream = ChatStream()
    for _ in range(6):
        stream.read(b"data: " + b"x" * (1 << 20))
    assert len(stream._line) <= 4 << 20
    stream.read(b"\n" + sse(chunk(choice("x")), STOP, COUNTED))
    assert stream.counted.whole() == Usage(18, 16)

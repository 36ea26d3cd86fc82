"""Input of a custom tool, put together from pieces of JSON however it is cut."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from satmeter.http.responses.custom_input import CustomInput

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def read(written: str, size: int) -> tuple[str, str]:
    found = CustomInput()
    deltas = [found.read(written[at : at + size]) for at in range(0, len(written), size)]
    return "".join([*deltas, found.end()]), found.text


@given(text=TEXT, ascii_only=st.booleans(), size=st.integers(1, 9), head=st.sampled_from(["", " \n"]))
def test_the_pieces_add_up_to_the_text(text: str, ascii_only: bool, size: int, head: str) -> None:
    written = head + json.dumps({"input": text}, ensure_ascii=ascii_only)
    assert read(written, size) == (text, text)


@given(text=TEXT, cut=st.integers(0, 60), size=st.integers(1, 9))
def test_what_was_cut_off_is_the_beginning_of_the_text(text: str, cut: int, size: int) -> None:
    written = json.dumps({"input": text})[:-2][: 11 + cut]
    told, kept = read(written, size)
    assert told == kept and text.startswith(told)


def test_another_form_comes_whole_at_the_end() -> None:
    assert read('{"why": "x", "input": "the text"}', 4) == ("the text", "the text")
    assert read('{"inputs": 7}', 4) == ('{"inputs": 7}', '{"inputs": 7}')
    assert read("", 4) == ("", "")


def test_lone_surrogates_end_no_stream() -> None:
    assert read('{"input": "a\\ud83d"}', 3)[0].startswith("a")
    assert read('{"input": "a\\ude00b"}', 3)[0].startswith("a")

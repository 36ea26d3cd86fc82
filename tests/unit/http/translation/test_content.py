"""Blocks of the Messages API that others' histories become: what that API would refuse is mended."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from satmeter.actors.domain.errors import RefusedError
from satmeter.http.translation import content
from satmeter.http.translation.content import Conversation

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r"
Json = dict[str, Any]


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def finished(*turns: tuple[str, list[Json]]) -> tuple[list[Json], list[Json]]:
    conversation = Conversation()
    for role, blocks in turns:
        if role == "system":
            conversation.instruct(blocks)
        else:
            conversation.add(role, blocks)
    return conversation.finished("input")


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\t\r\n"])
def test_text_of_white_space_alone_is_left_out(blank: str) -> None:
    assert list(content.text(blank)) == []
    assert list(content.text(f"{blank}a{blank}")) == [text(f"{blank}a{blank}")]


@pytest.mark.parametrize(
    ("label", "data", "kind"),
    [
        ("data:image/png;base64,", JPEG, "image/jpeg"),
        ("data:;base64,", PNG, "image/png"),
        ("data:application/octet-stream;base64,", b"GIF89a" + bytes(9), "image/gif"),
        ("data:image/png;charset=x;base64,", b"RIFF\x01\x02\x03\x04WEBPVP8 ", "image/webp"),
        ("data:image/jpg;base64,", b"unknown bytes", "image/jpeg"),
    ],
)
def test_the_first_bytes_say_what_an_image_is(label: str, data: bytes, kind: str) -> None:
    encoded = base64.encodebytes(data * 20).decode().replace("\n", "\r\n")
    assert "\r\n" in encoded
    source = content.image(label + encoded, "input")["source"]
    assert source == {"type": "base64", "media_type": kind, "data": base64.b64encode(data * 20).decode()}


@pytest.mark.parametrize("url", ["data:image/bmp;base64,Qk0=", "data:image/png,abc", "file:///etc/passwd", ""])
def test_an_image_that_can_t_be_sent_is_refused(url: str) -> None:
    with pytest.raises(RefusedError):
        content.image(url, "input[0]")


def test_instructions_alone_are_the_user_s() -> None:
    system, turns = finished(("system", [text("Be brief.")]), ("system", [text("Say hello.")]))
    assert (system, turns) == ([text("Be brief.")], [{"role": "user", "content": [text("Say hello.")]}])


def test_an_answer_to_be_continued_ends_without_white_space() -> None:
    _, turns = finished(("user", [text("Hi ")]), ("assistant", [text("So \n")]))
    assert [turn["content"] for turn in turns] == [[text("Hi ")], [text("So")]]


def test_thoughts_that_nothing_follows_are_left_out() -> None:
    thought: Json = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    _, turns = finished(
        ("user", [text("a")]),
        ("assistant", [thought]),
        ("user", [text("b")]),
        ("assistant", [thought, text("c"), {"type": "redacted_thinking", "data": "x"}]),
    )
    assert turns == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [thought, text("c")]},
    ]


def test_a_conversation_of_nothing_is_refused_by_the_field_s_name() -> None:
    with pytest.raises(RefusedError) as refused:
        finished(("user", []), ("system", []))
    assert refused.value.refusal.details["fields"][0]["path"] == "input"

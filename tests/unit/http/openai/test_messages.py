"""Messages of a chat completion request as the Messages API takes them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.chats import HELLO, PNG, Json, refusal, said, text, user

PART = "messages[0].content[0]"


def image(url: Any) -> Json:
    return {"type": "image_url", "image_url": {"url": url}}


def call(call_id: str, name: str, arguments: str) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_instructions_go_to_the_system_prompt_wherever_they_stand_and_whatever_they_are_called() -> None:
    body = said(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello", "name": "ann"},
        {"role": "developer", "content": [text("Now in French.")]},
    )
    assert body["system"] == [text("Be brief."), text("Now in French.")]
    assert body["messages"] == [user(text("Hello"))]


def test_turns_of_one_role_become_one_and_empty_ones_none() -> None:
    body = said(
        {"role": "user", "content": "One"},
        {"role": "user", "content": [text("two"), text("")]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "Four", "refusal": None, "audio": None},
        {"role": "user", "content": "five"},
    )
    assert body["messages"] == [
        user(text("One"), text("two"), text("three")),
        {"role": "assistant", "content": [text("Four")]},
        user(text("five")),
    ]


def test_calls_and_their_results_go_back_in_the_order_that_the_api_wants() -> None:
    calls = [
        {
            "id": "functions.weather:0",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
        },
        {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": ""}},
    ]
    body = said(
        {"role": "user", "content": "Weather and time?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "user", "content": "Quick!"},
        {"role": "tool", "tool_call_id": "functions.weather:0", "content": "sunny", "name": "weather"},
        {"role": "tool", "tool_call_id": "call_2", "content": [text("noon")]},
        {"role": "tool", "tool_call_id": "call_3", "content": ""},
    )
    assert body["messages"][1]["content"] == [
        text("I look."),
        {"type": "tool_use", "id": "functions_weather_0", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "functions_weather_0", "content": [text("sunny")]},
        {"type": "tool_result", "tool_use_id": "call_2", "content": [text("noon")]},
        {"type": "tool_result", "tool_use_id": "call_3"},
        text("Quick!"),
    ]


def test_what_an_assistant_declined_with_is_what_it_said() -> None:
    body = said(
        *HELLO,
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Please"},
        {"role": "assistant", "content": None, "refusal": "Still no."},
        {"role": "user", "content": "Why?"},
    )
    assert [turn["content"] for turn in body["messages"]] == [
        [text("Hello")],
        [text("No.")],
        [text("Please")],
        [text("Still no.")],
        [text("Why?")],
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        ),
        (
            {"type": "image_url", "image_url": "data:image/JPG;charset=utf-8;base64,/9j/"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://a.test/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://a.test/a.png"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            },
        ),
        (
            text("Long", cache_control={"type": "ephemeral", "ttl": "1h"}),
            text("Long", cache_control={"type": "ephemeral", "ttl": "1h"}),
        ),
        (
            text("Long", prompt_cache_breakpoint={"mode": "explicit"}),
            text("Long", cache_control={"type": "ephemeral"}),
        ),
    ],
)
def test_parts_of_a_message_become_blocks(part: Json, block: Json) -> None:
    assert said(user(part))["messages"] == [user(block)]


@pytest.mark.parametrize(
    ("message", "path", "told"),
    [
        ({"role": "moderator", "content": "Hush"}, "messages[0].role", "Must be system, developer, user"),
        ({"role": "function", "name": "f", "content": "1"}, "messages[0].role", "use tools"),
        ({"role": "tool", "content": "1"}, "messages[0].tool_call_id", "required"),
        (user({"type": "video"}), f"{PART}.type", "no such type"),
        (user({"type": "input_audio", "input_audio": {}}), f"{PART}.type", "transcript"),
        (user({"type": "text"}), f"{PART}.text", "required"),
        (user(image("file:///etc/passwd")), f"{PART}.image_url.url", "data URL"),
        (user(image("data:image/tiff;base64,AA")), f"{PART}.image_url.url", "JPEG"),
        (user({"type": "file", "file": {"file_id": "file-1"}}), f"{PART}.file.file_id", "file_data"),
        (user({"type": "file", "file": {"file_data": "data:text/plain;base64,AA"}}), f"{PART}.file.file_data", "PDF"),
        ({"role": "system", "content": [image(PNG)]}, "messages[0].content", "more than text"),
        ({"role": "user", "content": 7}, "messages[0].content", "Expected"),
        ({"role": "user", "content": ""}, "messages", "At least one message"),
    ],
)
def test_a_message_that_can_t_be_said_is_refused_by_its_place(message: Json, path: str, told: str) -> None:
    where, why = refusal(messages=[message])
    assert where == path
    assert told in why

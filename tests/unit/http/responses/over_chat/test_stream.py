"""Streamed chat completions as the events of a response: each fits OpenAI's own type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.responses.over_chat.answer import response
from satmeter.http.responses.over_chat.stream import ChatResponseStream
from tests.helpers.chat_answers import MODEL, USAGE, Json, chat, chat_sse, chunk, completion, counted, tool_call
from tests.helpers.responses import AGENTS, ENCRYPTED, FUNCTION, PATCH, events_in, fits

AT_S = 1_790_000_000
COST: dict[str, int | str] = {"cost_msat": 5, "cost_usd": "0.000001", "balance_msat": 7}
TOOLS: Json = {"tools": [FUNCTION, PATCH, AGENTS]}
ROLE = chunk(role="assistant", content=None)
EVERY_KIND = [
    ROLE,
    chunk(reasoning_content="Let me "),
    chunk(reasoning_content="see…"),
    chunk(content="Héllo"),
    chunk(content=" 🌍"),
    chunk(tool_calls=[tool_call("weather", "", index=0)]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"city": '}}]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": '"Zürich"}'}}]),
    chunk(tool_calls=[tool_call("apply_patch", '{"input": "*** \\"x', index=1)]),
    chunk(tool_calls=[{"index": 1, "function": {"arguments": '\\" ü"}'}}]),
    chunk("tool_calls"),
    counted(),
]
WHOLE = completion(
    "tool_calls",
    reasoning_content="Let me see…",
    content="Héllo 🌍",
    tool_calls=[tool_call("weather", '{"city": "Zürich"}'), tool_call("apply_patch", '{"input": "*** \\"x\\" ü"}')],
)


def made(request: Json | None = None) -> ChatResponseStream:
    return ChatResponseStream(chat(**(request or {})).wanted, MODEL, AT_S, "req_1")


def streamed(stream: bytes, request: Json | None = None, size: int = 10**6) -> list[Json]:
    found = made(request)
    sent = b"".join(found.read(stream[at : at + size]) for at in range(0, len(stream), size))
    return events_in(sent + found.end(COST))


def kinds(events: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_a_text_is_streamed_with_all_its_events() -> None:
    events = streamed(chat_sse(ROLE, chunk(content="Hel"), chunk(content="lo"), chunk("stop"), counted()))
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert {event["response"]["id"] for event in (events[0], events[1], events[-1])} == {f"resp_1_{AT_S:x}"}
    assert [event["delta"] for event in events[4:6]] == ["Hel", "lo"]
    last = fits(events[-1]["response"])
    assert last["output"] == [events[8]["item"]]
    assert last["usage"]["cost_msat"] == 5
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (17, 20)
    assert last["usage"]["output_tokens_details"] == {"reasoning_tokens": 6}


REQUESTS: list[Json] = [{}, TOOLS, {**TOOLS, **ENCRYPTED}, {**TOOLS, **ENCRYPTED, "reasoning": {"summary": "auto"}}]


@pytest.mark.parametrize("request_fields", REQUESTS)
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_a_streamed_answer_is_the_same_as_a_whole_one(request_fields: Json, size: int) -> None:
    last = streamed(chat_sse(*EVERY_KIND), request_fields, size)[-1]["response"]
    assert last == json.loads(response(WHOLE, chat(**request_fields).wanted, MODEL, AT_S, COST))
    assert [item["type"] for item in last["output"]][:3] == ["reasoning", "message", "function_call"]


def test_the_first_call_is_done_before_the_second_begins() -> None:
    names = kinds(streamed(chat_sse(*EVERY_KIND), TOOLS))
    first = names.index("function_call_arguments.done")
    assert names[first : first + 3] == [
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
    ]


def test_pieces_of_two_calls_may_alternate() -> None:
    events = streamed(
        chat_sse(
            chunk(tool_calls=[tool_call("weather", '{"city":', "a", index=0)]),
            chunk(tool_calls=[tool_call("weather", '{"city":', "b", index=1)]),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": '"Rome"}'}}]),
            chunk(content="Both."),
            chunk(tool_calls=[{"index": 1, "function": {"arguments": '"Oslo"}'}}]),
            chunk("tool_calls"),
        ),
        TOOLS,
    )
    first, second, message = events[-1]["response"]["output"]
    assert (first["call_id"], first["arguments"]) == ("a", '{"city":"Rome"}')
    assert (second["call_id"], second["arguments"]) == ("b", '{"city":"Oslo"}')
    assert message["content"][0]["text"] == "Both."
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert {event["output_index"]: event["item"] for event in done} == dict(enumerate([first, second, message]))


def test_whole_calls_without_numbers_are_told_apart_by_their_ids() -> None:
    calls = [tool_call("weather", '{"city": "Rome"}', call_id, index=0) for call_id in ("a", "b")]
    found = streamed(chat_sse(*[chunk(tool_calls=[call]) for call in calls], chunk("stop")), TOOLS)[-1]["response"]
    assert [call["call_id"] for call in found["output"]] == ["a", "b"]


def test_a_refusal_is_streamed() -> None:
    events = streamed(chat_sse(ROLE, chunk(refusal="It is "), chunk(refusal="harmful."), chunk("stop")))
    assert kinds(events)[3:8] == [
        "content_part.added",
        "refusal.delta",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
    ]


def test_an_answer_that_is_too_long_is_incomplete_with_its_last_item() -> None:
    cut_off = tool_call("weather", '{"city": "Ro', index=0)
    last = streamed(chat_sse(chunk(tool_calls=[cut_off]), chunk("length"), counted()), TOOLS)[-1]
    assert (last["type"], last["response"]["incomplete_details"]) == (
        "response.incomplete",
        {"reason": "max_output_tokens"},
    )
    (call,) = last["response"]["output"]
    assert (call["status"], call["arguments"]) == ("incomplete", '{"city": "Ro')


def test_one_that_was_cut_off_ends_as_one_that_was_too_long() -> None:
    for end in range(len(EVERY_KIND) - 2):
        last = streamed(chat_sse(*EVERY_KIND[:end], done=False), REQUESTS[-1])[-1]
        assert (last["response"]["status"], last["response"]["usage"]["cost_msat"]) == ("incomplete", 5)
    # The end mark is an end, too, if a server gives no reason.
    assert streamed(chat_sse(chunk(content="x")))[-1]["type"] == "response.completed"


def test_a_failure_is_an_error_and_a_failed_response_with_what_was_given() -> None:
    for end in (0, 1, 4, 7):
        stream = made(TOOLS)
        told: dict[str, Any] = {"message": "It broke.", "code": "model_failed", "requestId": "req_1"}
        sent = stream.read(chat_sse(*EVERY_KIND[:end], {"error": {"message": "gone"}}, done=False))
        found = events_in(sent + stream.fail(told, "server_error", COST))
        assert kinds(found)[:2] == ["created", "in_progress"]
        assert kinds(found)[-2:] == ["error", "failed"]
        last = fits(found[-1]["response"])
        assert (last["status"], last["error"]) == ("failed", {"code": "server_error", "message": "It broke."})
        assert last["usage"]["cost_msat"] == 5
        assert stream.read(chat_sse(chunk(content="late"))) == b""


def test_usage_may_stand_beside_a_piece_and_chunks_without_choices_begin_nothing() -> None:
    with_usage = {**chunk("stop", content="x"), "usage": USAGE}
    stream = made()
    assert stream.read(chat_sse({**counted(None), "id": "", "prompt_filter_results": []}, done=False)) == b""
    last = events_in(stream.read(chat_sse(with_usage)) + stream.end(COST))[-1]["response"]
    assert (last["usage"]["total_tokens"], last["id"]) == (37, f"resp_1_{AT_S:x}")


def test_the_sdk_s_own_accumulator_puts_it_together() -> None:
    import httpx2
    from openai import OpenAI

    stream = made(REQUESTS[-1])
    sent = stream.read(chat_sse(*EVERY_KIND)) + stream.end(COST)
    answers = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=sent, headers={"content-type": "text/event-stream"})
    )
    with (
        OpenAI(base_url="http://front.test/v1", api_key="k", http_client=httpx2.Client(transport=answers)) as client,
        client.responses.stream(model=MODEL, input="Hello") as found,
    ):
        final = found.get_final_response()
    assert final.output_text == "Héllo 🌍"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "custom_tool_call"]

"""Streamed answers of the Messages API as the events of a response: each fits OpenAI's own type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from satmeter.http.responses.answer import response
from satmeter.http.responses.stream import ResponseStream
from tests.helpers.anthropic_streams import EVERY_KIND, MODEL, STOP, block, change, delta, error, sse, start
from tests.helpers.responses import AGENTS, ENCRYPTED, FUNCTION, PATCH, Json, asked, events_in, fits

AT_S = 1_790_000_000
COST: dict[str, int | str] = {"cost_msat": 5, "cost_usd": "0.000001", "balance_msat": 7}
TOOLS: Json = {"tools": [FUNCTION, PATCH, AGENTS]}


def stop(index: int) -> Json:
    return {"type": "content_block_stop", "index": index}


def piece(index: int, text: str) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": text}}


def made(request: Json | None = None) -> ResponseStream:
    return ResponseStream(asked(**(request or {})).wanted, MODEL, AT_S, "req_1")


def streamed(stream: bytes, request: Json | None = None, size: int = 10**6) -> list[Json]:
    found = made(request)
    sent = b"".join(found.read(stream[at : at + size]) for at in range(0, len(stream), size))
    return events_in(sent + found.end(COST))


def kinds(events: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def without_numbers(event: Json) -> Json:
    return {name: value for name, value in event.items() if name != "sequence_number"}


def test_a_text_is_streamed_with_all_its_events() -> None:
    events = streamed(sse(start(), block(), {"type": "ping"}, delta("Hel"), delta("lo"), stop(0), change(), STOP))
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
    assert [event["response"]["status"] for event in (events[0], events[1], events[-1])] == [
        "in_progress",
        "in_progress",
        "completed",
    ]
    assert [event["delta"] for event in events[4:6]] == ["Hel", "lo"]
    assert events[6]["text"] == events[7]["part"]["text"] == "Hello"
    last = fits(events[-1]["response"])
    assert last["output"] == [events[8]["item"]]
    assert last["usage"]["cost_msat"] == 5 and last["usage"]["input_tokens"] == 17


REQUESTS: list[Json] = [{}, TOOLS, {**TOOLS, **ENCRYPTED}, {**TOOLS, **ENCRYPTED, "reasoning": {"summary": "auto"}}]


@pytest.mark.parametrize("request_fields", REQUESTS)
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_a_streamed_answer_is_the_same_as_a_whole_one(request_fields: Json, size: int) -> None:
    events = streamed(sse(*EVERY_KIND), request_fields, size)
    message = {
        "id": "msg_1",
        "model": MODEL,
        "content": [
            {"type": "thinking", "thinking": "Let me see… ", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "c2VjcmV0"},
            {"type": "text", "text": "Héllo 🌍"},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}},
        ],
        "stop_reason": "tool_use",
        "usage": events[-1]["response"]["usage"],
    }
    whole = json.loads(response(json.dumps(message).encode(), asked(**request_fields).wanted, AT_S, COST))
    last = events[-1]["response"]
    call, whole_call = last["output"][-1], whole["output"][-1]
    assert json.loads(call.pop("arguments")) == json.loads(whole_call.pop("arguments"))
    assert last["output"] == whole["output"]
    assert [event["item"]["id"] for event in events if event["type"] == "response.output_item.done"] == [
        item["id"] for item in last["output"]
    ]


def test_thoughts_are_streamed_as_summaries_to_whom_asks_for_them() -> None:
    events = streamed(sse(*EVERY_KIND), {"reasoning": {"summary": "detailed"}})
    assert kinds(events)[2:8] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert not any("summary" in kind for kind in kinds(streamed(sse(*EVERY_KIND))))


def test_calls_are_streamed_piece_by_piece_with_their_namespace() -> None:
    stream = sse(
        start(),
        block("tool_use", 0, id="toolu_a", name="agents__close", input={}),
        piece(0, '{"id": '),
        piece(0, "1}"),
        stop(0),
        block("tool_use", 1, id="toolu_b", name="weather", input={}),
        stop(1),
        change("tool_use"),
        STOP,
    )
    events = streamed(stream, TOOLS)
    assert [event["delta"] for event in events if "delta" in event] == ['{"id": ', "1}", "{}"]
    assert [event["arguments"] for event in events if event["type"].endswith("arguments.done")] == ['{"id": 1}', "{}"]
    first, second = events[-1]["response"]["output"]
    assert (first["name"], first["namespace"], first["status"]) == ("close", "agents", "completed")
    assert "namespace" not in second


def test_the_input_of_a_custom_tool_is_streamed_as_text() -> None:
    written = json.dumps({"input": 'a "b"\n\\ ü 🌍 end'})
    pieces = [piece(0, character) for character in written]
    events = streamed(
        sse(
            start(),
            block("tool_use", 0, id="toolu_a", name="apply_patch", input={}),
            *pieces,
            stop(0),
            change("tool_use"),
            STOP,
        ),
        TOOLS,
    )
    deltas = [event["delta"] for event in events if event["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == 'a "b"\n\\ ü 🌍 end' and len(deltas) > 5
    (call,) = events[-1]["response"]["output"]
    assert (call["type"], call["input"]) == ("custom_tool_call", 'a "b"\n\\ ü 🌍 end')


def test_a_refusal_in_a_stream_says_why() -> None:
    ended = change("refusal")
    ended["delta"]["stop_details"] = {"type": "refusal", "explanation": "It is harmful."}
    events = streamed(sse(start(), block(), delta("So"), stop(0), ended, STOP))
    assert kinds(events)[-7:] == [
        "output_item.added",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ]
    assert events[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}


def test_an_answer_that_is_too_long_is_incomplete_with_its_last_item() -> None:
    stream = sse(
        start(),
        block("tool_use", 0, id="toolu_a", name="weather", input={}),
        piece(0, '{"city": "Ro'),
        stop(0),
        change("max_tokens"),
        STOP,
    )
    last = streamed(stream, TOOLS)[-1]
    assert last["type"] == "response.incomplete"
    (call,) = last["response"]["output"]
    assert (call["status"], call["arguments"]) == ("incomplete", '{"city": "Ro')


def test_one_that_was_cut_off_ends_as_one_that_was_too_long() -> None:
    for cut in range(1, len(EVERY_KIND)):
        last = streamed(sse(*EVERY_KIND[:cut]), REQUESTS[-1])[-1]
        assert last["response"]["status"] == ("incomplete")
        assert last["response"]["usage"]["cost_msat"] == 5


def test_a_failure_is_an_error_and_a_failed_response_with_what_was_given() -> None:
    for events in ([], [start()], [start(), block(), delta("Hel"), stop(0)], [*EVERY_KIND[:8]]):
        stream = made()
        told: dict[str, Any] = {"message": "It broke.", "code": "model_failed", "requestId": "req_1"}
        found = events_in(stream.read(sse(*events, error("x"))) + stream.fail(told, "server_error", COST))
        assert kinds(found)[:2] == ["created", "in_progress"]
        assert kinds(found)[-2:] == ["error", "failed"]
        assert without_numbers(found[-2]) == {"type": "error", "param": None, **told}
        last = fits(found[-1]["response"])
        assert (last["status"], last["error"]) == ("failed", {"code": "server_error", "message": "It broke."})
        assert last["usage"]["cost_msat"] == 5


def test_nothing_after_the_end_counts() -> None:
    stream = made()
    stream.read(sse(start(), block(), delta("a"), change(), STOP))
    assert stream.read(sse(delta("after the end"))) == b""

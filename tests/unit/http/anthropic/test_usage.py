"""Cost of a call in a provider's body: one piece of text in its own `usage`, and all else as it came."""

from __future__ import annotations

import json

import pytest

from satmeter.http.anthropic.usage import LastUsage, with_cost

LAST = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":2}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
MORE = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"message_delta\\""}}\n\n'
COST: dict[str, int | str] = {"cost_msat": 7, "cost_usd": "0.1", "balance_msat": 3}


@pytest.mark.parametrize(
    "body",
    [
        b'{"usage":{}}',
        b'{"usage":{ "a" : 1 } , "z":1e3}',
        b'{"usage":{},"content":[{"text":"{}"}]}',
        b'{"x":{"usage":{"a":1}},"usage":{"a":1}}',
        b'{"usage":{"a":1},"x":{"usage":{"a":1}}}',
        b'{"usage":{"a":1},"text":"\\"usage\\":{}"}',
    ],
)
def test_the_cost_stands_in_the_usage_and_all_else_is_as_it_was(body: bytes) -> None:
    told = with_cost(body, COST)
    assert json.loads(told) == json.loads(body) | {"usage": json.loads(body)["usage"] | COST}
    piece = json.dumps(COST, separators=(",", ":")).encode()[1:-1]
    assert body in {told.replace(b"," + piece, b""), told.replace(piece, b"")}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"{}", b'{"usage":null}', b'{"usage":7}', b"\xff"])
def test_a_body_without_a_place_for_it_stays_as_it_is(body: bytes) -> None:
    assert with_cost(body, COST) == body


# Streams


def test_the_last_usage_waits_for_the_cost() -> None:
    last = LastUsage()
    assert last.pass_on(MORE) == MORE
    assert last.pass_on(MORE + LAST + STOP) == MORE
    told = last.end(COST)
    assert told.count(b"cost_msat") == 1 and told.endswith(STOP)
    piece = json.dumps(COST, separators=(",", ":")).encode()[1:-1]
    assert told.replace(b"," + piece, b"") == LAST + STOP
    assert last.end(COST) == b""


def test_a_usage_that_was_not_the_last_one_goes_on_as_it_came() -> None:
    last = LastUsage()
    assert last.pass_on(LAST) == b""
    assert last.pass_on(STOP) == b""
    assert last.pass_on(MORE) == LAST + STOP + MORE
    assert last.pass_on(LAST + MORE) == LAST + MORE
    assert last.end(COST) == b""


@pytest.mark.parametrize(
    "event", [b'data: {"x":"message_delta"}\n\n', b'data: {"type":"message_delta",\n\n', b": c\n\n"]
)
def test_what_is_not_the_last_usage_does_not_wait(event: bytes) -> None:
    assert LastUsage().pass_on(event) == event


def test_without_a_cost_what_waits_goes_on_as_it_came() -> None:
    last = LastUsage()
    last.pass_on(LAST)
    assert last.end() == LAST

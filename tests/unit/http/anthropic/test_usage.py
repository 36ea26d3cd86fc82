"""Cost of a call in a provider's body: one piece of text in its own `usage`, and all else as it came."""

from __future__ import annotations

import json

import pytest

from satmeter.http.anthropic.usage import with_cost

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

"""Errors of an upstream in the middle of a stream, with this server's fields beside its own."""

from __future__ import annotations

import json

import pytest

from satmeter.actors.domain.errors import RefusedError
from satmeter.actors.domain.money import Msat
from satmeter.http.anthropic.stream_events import error_event
from satmeter.http.request_facts import RequestFacts
from satmeter.http.sessions.answer import broken_refusal
from satmeter.http.upstreams.error_events import ErrorEvents, with_fields

FACTS = RequestFacts("req_1", pays=True)
BROKEN = RefusedError(broken_refusal("req_1", Msat(7), Msat(3)))
OURS = error_event(BROKEN, FACTS)
FIELDS = {
    "code": "model_failed",
    "requestId": "req_1",
    "retryAction": "stop",
    "paymentState": "settled",
    "debitedMsat": 7,
    "balanceMsat": 3,
}
PIECE = json.dumps(FIELDS, separators=(",", ":")).encode()[1:-1]
TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"\\"error\\":1"}}\n\n'
THEIRS = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "}"} }\n\n'


def ended(*pieces: bytes, rest: bytes = b"", named: bool = True) -> bytes:
    events = ErrorEvents(named=named)
    passed = b"".join(map(events.pass_on, pieces))
    return passed + events.end(BROKEN, FACTS, error_event, rest)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_our_fields_stand_beside_the_upstreams_and_their_removal_restores_its_bytes(newline: bytes) -> None:
    sent = (TEXT + THEIRS).replace(b"\n", newline)
    told = ended(sent)
    assert told.replace(b"," + PIECE, b"") == sent and told.count(PIECE) == 1
    data = json.loads(told[told.rindex(b"data: ") :].removeprefix(b"data: "))
    assert data == {"type": "error", "error": {"type": "overloaded_error", "message": "}"}, **FIELDS}


@pytest.mark.parametrize("cut", [b"", b"\n"])
def test_an_error_that_the_upstream_did_not_end_is_told(cut: bytes) -> None:
    begun = THEIRS.rstrip() + cut
    assert ended(TEXT, rest=begun).replace(b"," + PIECE, b"") == TEXT + begun + b"\n\n"


@pytest.mark.parametrize("rest", [b"", b'event: error\ndata: {"type":"error","er', b"data: {}"])
def test_without_an_error_of_the_upstream_our_own_is_told(rest: bytes) -> None:
    assert ended(TEXT, rest=rest) == TEXT + OURS


def test_an_error_that_sdks_do_not_raise_is_followed_by_our_own() -> None:
    unnamed = b'data: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n'
    assert ended(unnamed).replace(b"," + PIECE, b"") == unnamed + OURS.replace(b"," + PIECE, b"")
    assert ended(unnamed, named=False).count(b"\n\n") == 1
    assert ended(b'data: {"error":null}\n\n', named=False) == b'data: {"error":null}\n\n' + OURS


def test_what_more_follows_on_goes_on_as_it_came() -> None:
    events = ErrorEvents(named=True)
    assert events.pass_on(TEXT + THEIRS) == TEXT
    assert events.pass_on(b"") == b""
    assert events.pass_on(TEXT) == THEIRS + TEXT
    assert events.pass_on(THEIRS) == b"" and events.release() == THEIRS and events.release() == b""


def test_members_that_the_upstream_has_stay_its_own() -> None:
    assert json.loads(with_fields(b'{"error":"x","code":500}', FIELDS)) == {"error": "x", **FIELDS, "code": 500}
    assert with_fields(b'{"code":1}', {"code": 2}) == b'{"code":1}'
    assert with_fields(b"{}", {"code": 2}) == b'{"code":2}'


def test_a_long_event_without_an_end_is_looked_through_once() -> None:
    """An upstream that never ends an event must not cost more than its bytes."""
    sent = b'data: {"error"' + b"x" * 2_000_000
    assert ErrorEvents(named=False).pass_on(sent) == sent


def test_an_error_that_is_not_the_last_event_goes_on_as_it_came_however_it_is_cut() -> None:
    assert ended(THEIRS + THEIRS[:-2] + b"\n\n" + TEXT) == ended(THEIRS, THEIRS, TEXT) == THEIRS + THEIRS + TEXT + OURS
    assert ended(THEIRS + THEIRS) == ended(THEIRS, THEIRS)

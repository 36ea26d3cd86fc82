"""Turns over a mailbox that holds both the end of something and a repetition of it."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.domain.behaviour import Done
from satmeter.actors.domain.errors import idempotency_conflict
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.domain.session.messages import Ask, RequestAnswer
from satmeter.actors.domain.session.state import RequestFinished
from satmeter.actors.host.activation import Activation
from satmeter.actors.host.replies import ReplyQueue
from satmeter.actors.host.turn import Envelope
from satmeter.actors.ports import Append, Stored
from tests.helpers.jobs import START_MS
from tests.helpers.sessions import SESSION_ID, SESSION_TERMS, SessionBench, ask, completed


@pytest.fixture
def bench() -> SessionBench:
    """A session with a request under way."""
    bench = SessionBench()
    bench.fund(1_000)
    return bench


@pytest.mark.parametrize("digest", ["digest", "other"])
def test_a_repetition_in_the_turn_that_ends_the_request_gets_its_answer(bench: SessionBench, digest: str) -> None:
    (intent,) = bench.send(ask("a")).intents
    activation = Activation(SESSION_ID, 0, SessionBehaviour(SESSION_TERMS))
    activation.restore(bench.session, 2)
    again: Ask = ask("a", digest=digest)
    reply_to: Any = ReplyQueue(0.0).reply_to(1)
    envelopes = [Envelope(Done(intent, completed()), None, 0.0), Envelope(again, reply_to, 0.0)]
    turn = activation.decide(envelopes, START_MS)
    assert [type(event) for event in turn.events] == [RequestFinished]
    reply = turn.outcomes[1][1].reply
    assert isinstance(reply, RequestAnswer) if digest == "digest" else reply == idempotency_conflict()


def _attempts(bench: SessionBench, count: int) -> tuple[Activation, list[Append]]:
    """An actor that has tried so often to write the end of a request."""
    (intent,) = bench.send(ask("a")).intents
    activation = Activation(SESSION_ID, 0, SessionBehaviour(SESSION_TERMS))
    activation.restore(bench.session, 2)
    appends = []
    for number in range(count):
        turn = activation.decide([Envelope(Done(intent, completed()), None, 0.0)], START_MS + number)
        appends.append(activation.append_of(turn, 1, START_MS))
        activation.attempt(appends[-1], turn)
    return activation, appends


@pytest.mark.parametrize("made", [0, 3, 16, 19])
def test_whichever_of_many_attempts_was_made_is_known_for_what_it_is(bench: SessionBench, made: int) -> None:
    activation, appends = _attempts(bench, 20)
    before = [b"opened", b"deposited"]
    assert activation.written_after_all(Stored(None, 0, before)) is None
    happened = activation.written_after_all(Stored(None, 0, [*before, *appends[made].events]))
    assert happened is not None and [event.at_ms for event in happened.events] == [START_MS + made]
    assert not activation.lost_track(Stored(None, 0, [*before, *appends[made].events]))


def test_a_write_that_is_none_of_the_remembered_ones_is_known_to_be_lost(bench: SessionBench) -> None:
    activation, appends = _attempts(bench, 20)
    stored = Stored(None, 0, [b"opened", b"deposited", *appends[9].events])
    assert activation.written_after_all(stored) is None
    assert activation.lost_track(stored)
    assert not activation.lost_track(stored)

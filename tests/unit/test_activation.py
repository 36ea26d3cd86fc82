"""What one turn over a mailbox leads to when it holds both the end of something and a repetition of it."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.actors.activation import Activation, Envelope
from satmeter.actors.domain.behaviour import Command, Done, Intent
from satmeter.actors.domain.errors import idempotency_conflict
from satmeter.actors.domain.session import RequestFinished
from satmeter.actors.domain.session_api import Ask, RequestAnswer
from satmeter.actors.domain.session_behaviour import SessionBehaviour
from satmeter.actors.inbox import Inbox
from satmeter.actors.outlet import Outlet
from tests.jobs import START_MS
from tests.sessions import SESSION_ID, SESSION_TERMS, SessionBench, ask, completed


async def _run(intent: Intent, outlet: Outlet) -> Command:
    raise AssertionError("nothing is to be run here")


@pytest.fixture
def bench() -> SessionBench:
    """A session with a request under way."""
    bench = SessionBench()
    bench.fund(1_000)
    return bench


@pytest.mark.parametrize("digest", ["digest", "other"])
def test_a_repetition_in_the_turn_that_ends_the_request_gets_its_answer(bench: SessionBench, digest: str) -> None:
    (intent,) = bench.send(ask("a")).intents
    activation = Activation(SESSION_ID, 0, SessionBehaviour(SESSION_TERMS), _run, lambda outcome: None, 0.0)
    activation.restore(bench.session, 2)
    again: Ask = ask("a", digest=digest)
    caller: Any = Inbox(0.0).caller(1)
    envelopes = [Envelope(Done(intent, completed()), None, 0.0), Envelope(again, caller, 0.0)]
    turn = activation.decide(envelopes, START_MS)
    assert [type(event) for event in turn.events] == [RequestFinished]
    reply = turn.outcomes[1][1].reply
    assert isinstance(reply, RequestAnswer) if digest == "digest" else reply == idempotency_conflict()

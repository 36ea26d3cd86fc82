"""Mailbox whose writes come to nothing known."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from satmeter.actors.domain.errors import unconfirmed
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.host.host import ActorHost
from satmeter.actors.messages import Call
from satmeter.actors.partitioning import partition_of
from satmeter.actors.ports import Append, TransientError
from tests.helpers.sessions import SESSION_ID, SESSION_TERMS, SessionBench, ask
from tests.unit.actors.host.test_host_late_writes import Effects, LateJournal, answers_of

BEHAVIOUR = SessionBehaviour(SESSION_TERMS)
TRIES = 20
MADE = 9
"""The try that the store makes: neither among the first ones, nor among the last, which the mailbox remembers."""


@dataclass
class ForgetfulJournal(LateJournal):
    """A journal that confirms the hold alone, and makes one of many tries to write its end."""

    tries: list[Append] = field(default_factory=list)

    async def append(self, append: Append) -> None:
        if len(self.events) != 1:
            await super().append(append)
            return
        self.tries.append(append)
        self.now_ms += 1
        if len(self.tries) == TRIES:
            self.events += self.tries[MADE].events
        raise TransientError("the store did not answer")


async def test_a_caller_whose_outcome_can_not_be_known_any_more_hears_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.host.mailbox._STORE_BACKOFF_FIRST_S", 0.0)
    # Only the write that was made in between may have the caller refused.
    monkeypatch.setattr("satmeter.actors.host.mailbox._STORE_PATIENCE_S", 1e9)
    bench = SessionBench()
    bench.fund(1_000)
    assert bench.session is not None
    journal = ForgetfulJournal(BEHAVIOUR.encode_state(bench.session))
    host = ActorHost("host", journal, Effects(), {"ses": BEHAVIOUR}, now_ms=lambda: journal.now_ms)  # type: ignore[arg-type]
    await host.start([partition_of(SESSION_ID)])
    await host.submit("queue", [Call(1, SESSION_ID, ask("a"))])
    *_, last = await answers_of(host, 1)
    assert last.reply == unconfirmed()
    assert len(journal.tries) == TRIES
    await host.stop(0)

"""A write that the store makes late, when its caller has had another answer already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from satmeter.actors.domain.behaviour import Done, Intent
from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.errors import Refusal
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.domain.session.messages import GetSession, RequestAnswer
from satmeter.actors.host.host import ActorHost
from satmeter.actors.messages import Answer, Call, NotOwner
from satmeter.actors.partitioning import partition_of
from satmeter.actors.ports import Append, ConflictError, Due, Stored, TransientError
from tests.helpers.jobs import START_MS
from tests.helpers.patience import PATIENCE_S
from tests.helpers.sessions import SESSION_ID, SESSION_TERMS, SessionBench, ask, close, completed, grant, target

BEHAVIOUR = SessionBehaviour(SESSION_TERMS)


@dataclass
class LateJournal:
    """A journal of one session, which keeps the next write back when `stands_still`, and makes it when it is told."""

    snapshot: bytes
    now_ms: int = START_MS
    stands_still: bool = False
    events: list[bytes] = field(default_factory=list)
    kept_back: list[Append] = field(default_factory=list)
    on_load: Callable[[], None] | None = None
    epoch: int = 1

    async def claim(self, partitions: Collection[int], host_id: str) -> Mapping[int, int]:
        return dict.fromkeys(partitions, 1)

    async def epochs(self, partitions: Collection[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, self.epoch)

    async def due(self, partitions: Collection[int], before_ms: int) -> Sequence[Due]:
        return []

    async def recall(self, *_: Any) -> Mapping[str, bytes]:
        return {}

    async def load(self, partition: int, actor_id: str) -> Stored:
        if self.on_load is not None and self.kept_back:
            self.on_load()
        return Stored(self.snapshot, 2, list(self.events))

    async def append(self, append: Append) -> None:
        if self.stands_still:
            self.stands_still = False
            self.kept_back.append(append)
            self.now_ms += 2_000
            raise TransientError("the store did not answer")
        if append.expected_version != 2 + len(self.events):
            raise ConflictError("the journal is at another version")
        self.events += append.events

    def make_late(self) -> None:
        """The store goes on, with what it was sent first."""
        self.events += self.kept_back.pop().events


@dataclass
class Effects:
    """Effects that succeed at once."""

    ran: list[Intent] = field(default_factory=list)
    may_end: asyncio.Event | None = None
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def prepare(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def run(self, intent: Intent, progress: object, actor_id: str) -> Done:
        self.ran.append(intent)
        self.began.set()
        if self.may_end is not None:
            await self.may_end.wait()
        return Done(intent, completed())


async def answers_of(host: ActorHost, count: int) -> list[Answer]:
    found: list[Answer] = []
    async with asyncio.timeout(PATIENCE_S):
        while sum(answer.last for answer in found) < count:
            found += await host.collect("queue", 1)
    return found


async def started(may_end: asyncio.Event | None = None) -> tuple[SessionBench, LateJournal, Effects, ActorHost]:
    """A host of one session with 1,000 sats. Effects end at once, or when they may."""
    bench = SessionBench()
    bench.fund(1_000)
    assert bench.session is not None
    journal, effects = LateJournal(BEHAVIOUR.encode_state(bench.session)), Effects(may_end=may_end)
    host = ActorHost("host", journal, effects, {"ses": BEHAVIOUR}, now_ms=lambda: journal.now_ms)  # type: ignore[arg-type]
    await host.start([partition_of(SESSION_ID)])
    return bench, journal, effects, host


async def test_a_request_that_was_refused_meanwhile_is_not_begun_by_its_late_write() -> None:
    """The credential ran out between the two tries: its caller has the refusal, and could not stop the work."""
    _, journal, effects, host = await started()
    short: Grant = grant(expires_at_s=START_MS // 1_000 + 1)
    journal.stands_still = True
    await host.submit("queue", [Call(1, SESSION_ID, ask("a", by=short))])
    (refused,) = await answers_of(host, 1)
    assert refused.last and effects.ran == []
    journal.make_late()
    await host.submit("queue", [Call(2, SESSION_ID, ask("b"))])
    await answers_of(host, 1)
    debits = [event for event in journal.events if b"request_finished" in event]
    released = [event for event in journal.events if b"hold_released" in event]
    assert len(effects.ran) == len(debits) == 1
    assert len(released) == 1
    await host.stop(0)


async def test_work_that_others_joined_is_not_begun_after_its_first_caller_was_refused() -> None:
    """Both wait for one hold. It is released for the first caller, and the model would work without one."""
    _, journal, effects, host = await started()
    journal.stands_still = True
    journal.on_load = lambda: _refuse_the_first(host, journal)
    await host.submit("queue", [Call(1, SESSION_ID, ask("a")), Call(2, SESSION_ID, ask("a"))])
    answers = await answers_of(host, 2)
    assert {answer.call_id: getattr(answer.reply, "code", None) for answer in answers} == {
        1: "unavailable",
        2: "unavailable",
    }
    assert effects.ran == []
    released = [event for event in journal.events if b"hold_released" in event]
    assert len(released) == 1
    await host.stop(0)


async def test_a_key_that_comes_again_before_its_refused_request_is_released_gets_a_hold_of_its_own() -> None:
    """Joined to the hold that is released for the first one, its model call would be paid by no one."""
    _, journal, effects, host = await started()
    journal.stands_still = True
    short: Grant = grant(expires_at_s=START_MS // 1_000 + 1)
    await host.submit("queue", [Call(1, SESSION_ID, ask("a", by=short))])
    await answers_of(host, 1)
    journal.make_late()
    await host.submit("queue", [Call(2, SESSION_ID, ask("a"))])
    (answer,) = await answers_of(host, 1)
    assert isinstance(answer.reply, RequestAnswer)
    assert len(effects.ran) == _count(journal, b"request_finished") == _count(journal, b"hold_released") == 1
    await host.stop(0)


async def test_a_request_under_way_goes_on_when_a_caller_that_joined_it_was_refused() -> None:
    """The first caller still waits for it. Its hold must not be released under the model's hands."""
    _, journal, effects, host = await started(asyncio.Event())
    await host.submit("queue", [Call(1, SESSION_ID, ask("a"))])
    await _until_ran(effects, 1)
    journal.stands_still = True
    journal.on_load = lambda: _refuse_the_first(host, journal)
    await host.submit("queue", [Call(2, SESSION_ID, ask("a")), Call(3, SESSION_ID, ask("b"))])
    await _until_ran(effects, 2)
    assert effects.may_end is not None
    effects.may_end.set()
    replies = {answer.call_id: answer.reply for answer in await answers_of(host, 3)}
    assert isinstance(replies[1], RequestAnswer) and isinstance(replies[3], RequestAnswer)
    assert isinstance(replies[2], Refusal)
    assert (_count(journal, b"request_finished"), _count(journal, b"hold_released")) == (2, 0)
    await host.stop(0)


async def _until_ran(effects: Effects, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(effects.ran) < count:
            await effects.began.wait()
            effects.began.clear()


def _count(journal: LateJournal, kind: bytes) -> int:
    return sum(kind in event for event in journal.events)


def _refuse_the_first(host: ActorHost, journal: LateJournal) -> None:
    """Have the store fail once more, when the first caller has waited long enough, and make the write after that."""
    first = next(envelope for envelope in host._mailboxes[SESSION_ID]._commands if envelope.reply_to is not None)
    first.arrived_s -= 3_600
    journal.on_load = journal.make_late
    raise TransientError("the store did not answer")


async def test_a_host_that_stood_still_does_not_pay_what_its_successor_has_begun_to_pay() -> None:
    """A host that reads the actor again would take the payout for its own. The simulator found it (seed 6862)."""
    bench, journal, effects, host = await started()
    assert bench.session is not None
    await host.submit("queue", [Call(1, SESSION_ID, GetSession(grant()))])
    await answers_of(host, 1)
    begun = bench.send(close(target(1, 900)))
    assert [intent.key for intent in BEHAVIOUR.intents(SESSION_ID, bench.session)] != []
    journal.events += [BEHAVIOUR.encode_event(event) for event in begun.events]
    journal.epoch += 1
    journal.stands_still = True
    await host.submit("queue", [Call(2, SESSION_ID, ask("a"))])
    (answer,) = await answers_of(host, 1)
    assert isinstance(answer.reply, NotOwner)
    assert effects.ran == []
    await host.stop(0)

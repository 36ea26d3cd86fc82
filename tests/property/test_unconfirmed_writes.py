"""Laws of a session whose store loses, delays and does not confirm writes, while callers wait and come again.

Each model call has a charge, each hold an end, and each caller one last answer, whatever the store makes of a write.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import pytest

from satmeter.actors.domain.behaviour import Command, Done, Intent
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.host.host import ActorHost
from satmeter.actors.messages import Answer, Call
from satmeter.actors.partitioning import partition_of
from satmeter.actors.ports import Append, ConflictError, Due, Stored, TransientError
from tests.helpers.jobs import START_MS
from tests.helpers.patience import PATIENCE_S
from tests.helpers.sessions import SESSION_ID, SESSION_TERMS, SessionBench, ask, completed, grant

BEHAVIOUR: Final = SessionBehaviour(SESSION_TERMS)
SEEDS: Final = 300
FUNDED: Final = 2
"""The events of a session that is open and paid."""


class _Journal:
    """A journal that makes a write at once, later or never, and tells the truth about it or nothing."""

    def __init__(self, snapshot: bytes, chance: random.Random) -> None:
        self.events: list[bytes] = []
        self.now_ms = START_MS
        self.calm = False
        self._snapshot = snapshot
        self._chance = chance
        self._late: list[Append] = []
        self._kept: dict[str, bytes] = {}

    async def claim(self, partitions: Collection[int], host_id: str) -> Mapping[int, int]:
        return dict.fromkeys(partitions, 1)

    async def epochs(self, partitions: Collection[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, 1)

    async def due(self, partitions: Collection[int], before_ms: int) -> Sequence[Due]:
        return []

    async def recall(self, partition: int, actor_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        return {name: self._kept[name] for name in names if name in self._kept}

    async def load(self, partition: int, actor_id: str) -> Stored:
        await asyncio.sleep(0)
        self._make_a_late_one()
        if not self.calm and self._chance.random() < 0.25:
            raise TransientError("the store did not answer")
        return Stored(self._snapshot, FUNDED, [*self.events])

    async def append(self, append: Append) -> None:
        await asyncio.sleep(0)
        self._make_a_late_one()
        fate = (
            "made" if self.calm else self._chance.choices(("lost", "late", "unconfirmed", "made"), (10, 15, 10, 65))[0]
        )
        match fate:
            case "late":
                self._late.append(append)
            case "unconfirmed":
                self._make(append)
            case "made":
                if not self._make(append):
                    raise ConflictError("the journal is at another version")
                return
        raise TransientError("the store did not answer")

    def count(self, kind: bytes) -> int:
        """Return the number of events of a kind."""
        return sum(kind in event for event in self.events)

    def _make_a_late_one(self) -> None:
        if self._late and self._chance.random() < 0.3:
            self._make(self._late.pop(self._chance.randrange(len(self._late))))

    def _make(self, append: Append) -> bool:
        if append.expected_version != FUNDED + len(self.events):
            return False
        self.events += append.events
        self._kept |= {kept.name: kept.value for kept in append.kept}
        return True


class _Effects:
    """Effects that take a while, and succeed."""

    def __init__(self, chance: random.Random) -> None:
        self.ran: list[str] = []
        self._chance = chance

    def prepare(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def run(self, intent: Intent, progress: object, actor_id: str) -> Command:
        self.ran.append(intent.key)
        await _turns(self._chance.randrange(12))
        return Done(intent, completed())


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _life(chance: random.Random) -> None:
    bench = SessionBench()
    bench.fund(10_000)
    assert bench.session is not None
    journal, effects = _Journal(BEHAVIOUR.encode_state(bench.session), chance), _Effects(chance)
    host = ActorHost("host", journal, effects, {"ses": BEHAVIOUR}, now_ms=lambda: journal.now_ms)  # type: ignore[arg-type]
    await host.start([partition_of(SESSION_ID)])
    calls = 0
    for _ in range(chance.randrange(5, 40)):
        match chance.choices(("call", "refuse", "later"), (60, 20, 5))[0]:
            case "call":
                calls += 1
                await host.submit("queue", [Call(calls, SESSION_ID, _asked(chance), chance.random() < 0.3)])
            case "refuse":
                _let_some_have_waited_long(host, chance)
            case "later":
                journal.now_ms += 1_500
        await _turns(chance.randrange(8))
    journal.calm = True
    calls += 1
    await host.submit("queue", [Call(calls, SESSION_ID, ask("last"))])
    answers = await _answers_of(host, calls)
    await _rest(host)
    assert Counter(answer.call_id for answer in answers if answer.last) == Counter(range(1, calls + 1))
    charged, released = journal.count(b"request_finished"), journal.count(b"hold_released")
    assert len(effects.ran) == charged
    assert journal.count(b"hold_placed") == charged + released
    await host.stop(0)


def _asked(chance: random.Random) -> Any:
    short = chance.random() < 0.1
    name = chance.choice("abc")
    # The credential may run out between two tries to write.
    return ask(name, by=grant(expires_at_s=START_MS // 1_000 + 1)) if short else ask(name)


def _let_some_have_waited_long(host: ActorHost, chance: random.Random) -> None:
    mailbox = host._mailboxes.get(SESSION_ID)
    for envelope in mailbox._commands if mailbox is not None else ():
        if chance.random() < 0.5:
            envelope.arrived_s -= 3_600


async def _answers_of(host: ActorHost, calls: int) -> list[Answer]:
    found: list[Answer] = []
    async with asyncio.timeout(PATIENCE_S):
        while sum(answer.last for answer in found) < calls:
            found += await host.collect("queue", 1)
    return found


async def _rest(host: ActorHost) -> None:
    """Wait until nothing is under way."""
    async with asyncio.timeout(PATIENCE_S):
        while any(not mailbox.idle for mailbox in host._mailboxes.values()):
            await asyncio.sleep(0)


async def test_each_model_call_is_charged_and_each_caller_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_STORE_BACKOFF_FIRST_S", "_STORE_BACKOFF_MAX_S"):
        monkeypatch.setattr(f"satmeter.actors.host.mailbox.{name}", 0.0)
    for seed in range(SEEDS):
        try:
            await _life(random.Random(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error

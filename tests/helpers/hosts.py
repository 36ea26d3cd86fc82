"""A real host on a real store, with stand-ins for what lies outside, and a router to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import RedisError

from satmeter.actors.adapters.redis.bindings import RedisBindings
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.dedicated.host import DedicatedHost
from satmeter.actors.domain.behaviour import Behaviour
from satmeter.actors.domain.demo import DemoBehaviour
from satmeter.actors.domain.job.behaviour import JobBehaviour, JobTerms
from satmeter.actors.domain.job.state import GetJob, JobState, JobView
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.domain.session.pricing import SessionTerms
from satmeter.actors.effects.executor import Effects
from satmeter.actors.effects.invoice_pool import InvoicePool
from satmeter.actors.host.host import ActorHost
from satmeter.actors.host.rehydrate import rehydrate
from satmeter.actors.host_link import LinkError, NoHostError
from satmeter.actors.messages import Answer, Call, Cancel
from satmeter.actors.metrics.host import HostMetrics
from satmeter.actors.partitioning import PARTITIONS
from satmeter.actors.ports import Append, ConflictError, Destinations, Due, Stored, TransientError, Webhooks
from satmeter.actors.router.router import Router
from satmeter.scripts.benchmarks.local_link import LocalLink
from tests.helpers.fakes import FakeLightning, FakeLimits, FakeModel, FixedPrices, Gate
from tests.helpers.jobs import BTC, JOB_TERMS
from tests.helpers.lnurl_servers import FakeDestinations
from tests.helpers.patience import PATIENCE_S
from tests.helpers.sessions import SESSION_TERMS
from tests.helpers.webhooks import FakeWebhooks

HOST_SESSION_TERMS = replace(SESSION_TERMS, invoice_expiry_s=60, pending_max=5)


def liability_of(actor_id: str, stored: Stored) -> int:
    """Return what the wallet must hold for an actor."""
    kinds: dict[str, Behaviour[Any]] = {
        "job": JobBehaviour(JOB_TERMS),
        "ses": SessionBehaviour(SESSION_TERMS),
    }
    behaviour = kinds[actor_id.partition("_")[0]]
    return behaviour.liability(rehydrate(behaviour, actor_id, stored)).value


# What the journal's own commands do for each partition, for all of a store at once: a test's host owns all 1,024, and a
# thousand commands take longer than most tests. The first does nothing where anything was claimed before.
_CLAIM_ALL = """
for i = 1, ARGV[1] do
  if redis.call('EXISTS', string.format('satmeter:{p%04d}:epoch', i - 1)) == 1 then return 0 end
end
for i = 1, ARGV[1] do
  local place = string.format('satmeter:{p%04d}:', i - 1)
  redis.call('SET', place .. 'owner', ARGV[2])
  redis.call('SET', place .. 'epoch', 1)
  redis.call('HSET', place .. 'totals', 'epoch', 1, 'liability_msat', 0, 'sums_epoch', 1, 'sums_from', 0)
end
return 1
"""
_DUE = """
local found = {}
for i = 2, #ARGV do
  local due = redis.call('ZRANGEBYSCORE', string.format('satmeter:{p%04d}:due', ARGV[i]), '-inf', ARGV[1], 'WITHSCORES')
  for _, word in ipairs(due) do found[#found + 1] = word end
end
return found
"""


class LossyJournal(RedisJournal):
    """A store whose confirmations get lost: a write is made, or not, and the host can't know.

    `late`: so many writes arrive only when the one after them does, and before it.
    """

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, liability_of)
        self.lose_after_writing = 0
        self.lose_before_writing = 0
        self.late = 0
        self._on_the_way: list[Append] = []

    async def claim(self, partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
        all_at_once = len(partitions) == PARTITIONS and self._cluster is None
        if all_at_once and await self._at_once(_CLAIM_ALL, PARTITIONS, host_id):
            return dict.fromkeys(partitions, 1)
        return await super().claim(partitions, host_id)

    async def due(self, partitions: Sequence[int], before_ms: int) -> Sequence[Due]:
        if self._cluster is not None:
            return await super().due(partitions, before_ms)
        found = await self._at_once(_DUE, before_ms, *partitions)
        return [Due(int(due_ms), actor_id.decode()) for actor_id, due_ms in zip(found[::2], found[1::2], strict=True)]

    async def _at_once(self, script: str, *words: int | str) -> Any:
        try:
            return await self._redis.eval(script, 0, *words)
        except (RedisError, OSError) as error:
            raise TransientError(str(error)) from error

    async def append(self, append: Append) -> None:
        if self.late:
            self.late -= 1
            self._on_the_way.append(append)
            raise TransientError("late")
        on_the_way, self._on_the_way = self._on_the_way, []
        for earlier in on_the_way:
            with suppress(ConflictError):
                await super().append(earlier)
        if self.lose_before_writing:
            self.lose_before_writing -= 1
            raise TransientError("lost on the way there")
        await super().append(append)
        if self.lose_after_writing:
            self.lose_after_writing -= 1
            raise TransientError("lost on the way back")


AnyHost = ActorHost | DedicatedHost
PLACEMENT = "shared"
"""How the hosts of a world run their actors, if it doesn't say; see the fixture `placement`."""


class LocalDedicatedProcess(LocalLink):
    """An actor's own host, in this process; a `DedicatedProcess`.

    `looks`: how often it was asked whether it is coming.
    """

    def __init__(self, host: ActorHost) -> None:
        super().__init__(host)
        self.host = host
        self.ended = False
        self.looks = 0
        self._coming = False
        self._awake = asyncio.Event()
        self._awake.set()

    def hang(self) -> None:
        """Nobody is answered any more. What it has under way goes on: it could as well do so when it wakes."""
        self._awake.clear()

    def die(self) -> None:
        """Nobody is answered until it has come again."""
        self.hang()
        self._coming = True

    def come(self) -> None:
        """Let it answer again."""
        self._awake.set()
        self._coming = False

    async def coming(self) -> bool:
        self.looks += 1
        return self._coming

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        await self._must_be_there()
        await super().submit(queue_id, calls)

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        await self._must_be_there()
        return await super().collect(queue_id)

    async def occupied(self) -> bool | None:
        await self._must_be_there()
        return self.host.occupied if self.host.live_actors else None

    async def _must_be_there(self) -> None:
        await self._awake.wait()
        if self.ended:
            raise NoHostError


class LocalProcessLauncher:
    """Implements `ProcessLauncher` without processes."""

    def __init__(self, world: World, passivate_after_s: float) -> None:
        self._world = world
        self._passivate_after_s = passivate_after_s
        self.running: dict[str, LocalDedicatedProcess] = {}

    async def start(self, actor_id: str, partition: int, epoch: int) -> LocalDedicatedProcess:
        if self._world.launch_failures:
            self._world.launch_failures -= 1
            raise LinkError("none is free")
        await self._world.launch_gate.pass_through()
        await self.end(actor_id)
        host = self._world.host(self._passivate_after_s, actor_id, only=actor_id)
        process = self.running[actor_id] = LocalDedicatedProcess(host)
        await host.start()
        await host.lend(partition, epoch)
        return process

    async def end(self, actor_id: str) -> None:
        if (process := self.running.pop(actor_id, None)) is not None:
            process.ended = True
            await process.host.stop(patience_s=0)


class LossyBindings(RedisBindings):
    """A store that fails at the owners of invoices, before or after it has written one."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.lose_after_writing = 0
        self.lose_before_writing = 0

    async def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        if self.lose_before_writing:
            self.lose_before_writing -= 1
            raise TransientError("lost on the way there")
        bound = await super().bind(payment_hash, actor_id, keep_ms)
        if self.lose_after_writing:
            self.lose_after_writing -= 1
            raise TransientError("lost on the way back")
        return bound


@dataclass
class World:
    """The outside of hosts, which outlives them. `launch_failures`: so many more actors' processes can't be started."""

    redis: Redis
    lightning: FakeLightning = field(default_factory=FakeLightning)
    model: FakeModel = field(default_factory=FakeModel)
    limits: FakeLimits = field(default_factory=FakeLimits)
    webhooks: Webhooks = field(default_factory=FakeWebhooks)
    destinations: Destinations = field(default_factory=FakeDestinations)
    job_terms: JobTerms = replace(JOB_TERMS, eval_expiry_s=60, invoice_expiry_s=60)
    session_terms: SessionTerms = HOST_SESSION_TERMS
    offset_ms: int = 0
    dedicated: bool = field(default_factory=lambda: PLACEMENT == "dedicated")
    metrics: HostMetrics | None = None
    invoices_ahead: int = 0
    launch_failures: int = 0
    launch_gate: Gate = field(default_factory=Gate)
    launcher: LocalProcessLauncher = field(init=False)
    journal: LossyJournal = field(init=False)
    bindings: LossyBindings = field(init=False)

    def __post_init__(self) -> None:
        self.journal = LossyJournal(self.redis)
        self.bindings = LossyBindings(self.redis)
        self.lightning.now_ms = self.now_ms

    def now_ms(self) -> int:
        """The hosts' clock: the loop's own, moved on by `offset_ms`."""
        return 1_800_000_000_000 + int(asyncio.get_running_loop().time() * 1_000) + self.offset_ms

    async def pause(self, delay_s: float) -> None:
        """The effects' pauses between two attempts: long enough for others to go on."""
        await a_moment()

    def host(self, passivate_after_s: float = 60.0, host_id: str = "host-0", only: str | None = None) -> ActorHost:
        """A host that has not been started."""
        invoices = InvoicePool(
            self.lightning, self.bindings, ahead_max=self.invoices_ahead, now_ms=self.now_ms, pause=self.pause
        )
        effects = Effects(
            self.lightning,
            self.model,
            FixedPrices(BTC),
            self.limits,
            invoices,
            self.webhooks,
            self.destinations,
            pause=self.pause,
            now_ms=self.now_ms,
            uptime_ms=self.now_ms,
        )
        return ActorHost(
            host_id,
            self.journal,
            effects,
            self._behaviours(),
            passivate_after_s=passivate_after_s,
            now_ms=self.now_ms,
            only=only,
            metrics=self.metrics,
        )

    def _behaviours(self) -> dict[str, Behaviour[Any]]:
        return {
            "job": JobBehaviour(self.job_terms),
            "ses": SessionBehaviour(self.session_terms),
            "demo": DemoBehaviour("haiku"),
        }

    def dedicated_host(self, passivate_after_s: float = 60.0, processes_max: int = 8) -> DedicatedHost:
        """One that gives each actor a host of its own."""
        launcher = self.launcher = LocalProcessLauncher(self, passivate_after_s)
        return DedicatedHost(
            "host-0",
            self.journal,
            launcher,
            self.host(passivate_after_s),
            self._behaviours(),
            processes_max=processes_max,
            passivate_after_s=passivate_after_s,
            now_ms=self.now_ms,
        )

    @asynccontextmanager
    async def serving(
        self, passivate_after_s: float = 60.0, processes_max: int = 8
    ) -> AsyncIterator[tuple[AnyHost, Router]]:
        """A host that owns everything, and a router to it. At the end it stops without waiting for anything."""
        own_processes = self.dedicated
        host = self.dedicated_host(passivate_after_s, processes_max) if own_processes else self.host(passivate_after_s)
        await host.start(range(PARTITIONS))
        router = Router(self.journal.owners, {"host-0": LocalLink(host)}.__getitem__)
        try:
            yield host, router
        finally:
            await router.close()
            await host.stop(patience_s=0)


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = PATIENCE_S) -> None:
    """Waits until the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await a_moment()


async def a_moment() -> None:
    """Let others go on for 5 ms."""
    moment = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, moment.set)
    await moment.wait()


async def job_in(router: Router, job_id: str, state: JobState) -> JobView:
    """The job once it has come to that state."""
    found: list[JobView] = []

    async def arrived() -> bool:
        reply = await router.call(job_id, GetJob())
        assert isinstance(reply, JobView)
        found.append(reply)
        return reply.state is state

    await until(arrived)
    return found[-1]

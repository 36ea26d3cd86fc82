"""One run: the steps of a seed, one after the other, then calm, rest, and the closing of the books."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ...actors.domain.errors import RefusedError
from .books.auditor import Auditor
from .books.upstreams import UpstreamBook
from .books.waiting import Waiting, Work
from .books.webhook_expectations import LATE_MS
from .clients.common import LeftError, Market
from .clients.holders import Holders
from .clients.jobs import JobClient
from .clients.sessions import SessionClient
from .cluster import Cluster, FrontProcess, Models, TreasuryProcess
from .destinations import SimulatedDestinations
from .faults import Faults
from .hosts import behaviours
from .loop import Chance, SimulatedLoop
from .model import SimulatedModel
from .node import SimulatedNode
from .patching import START_MS, simulated
from .placement_faults import PlansByChance
from .plan import (
    Step,
    has_destinations,
    has_servers,
    keeps_owners,
    missing_usage_of,
    pieces_max_of,
    processes_max_of,
    snapshot_every,
    treasury_pays,
    upstreams_of,
)
from .receivers import Receivers
from .servers import Servers
from .settings import session_terms
from .store.archiving import Operator
from .store.data import StoreData
from .store.membership import MembershipData
from .store.server import StoreAccess
from .upstreams import SimulatedUpstreams
from .world import Fault, World

_REST_S: Final = 900.0
_LOOK_EVERY_S: Final = 5.0
# How often clients choose a session that none of them has closed. The others offer little, which is soon seen.
_OPEN_PART: Final = {"ask": 0.95, "hold": 0.95, "top_up": 0.8, "look": 0.5, "close": 0.4}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a run. `violation` None: all promises were kept."""

    seed: int
    violation: str | None
    history: Sequence[str]
    figures: dict[str, int] = field(default_factory=dict)


def run(seed: int, steps: Sequence[Step], faults: Collection[Fault]) -> Outcome:
    """Run these steps of a seed, with these kinds of faults."""
    chance = Chance(f"run {seed}")
    loop = SimulatedLoop(chance)
    world = World(loop, chance, frozenset(faults), pieces_max_of(seed))
    with simulated(loop, chance, world.log, snapshot_every(seed)):
        try:
            loop.set_exception_handler(lambda _loop, context: _defect(world, context))
            figures = loop.run_until_complete(_Run(world, seed).go(steps))
        except Exception as error:
            world.violate(f"the run broke: {error!r}")
            figures = {}
        finally:
            world.calm_down = True
            loop.end()
    return Outcome(seed, world.violation, world.history, figures)


def _defect(world: World, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if not world.calm_down and not isinstance(error, RefusedError | LeftError):
        whose = getattr(context.get("future"), "get_coro", lambda: None)()
        name = getattr(whose, "__qualname__", "unknown")
        world.violate(f"an error that nobody takes: {context.get('message')} in {name}: {error!r}")


class _Run:
    """The parts of a run, and what each step does."""

    def __init__(self, world: World, seed: int) -> None:
        processes_max, upstream_count, missing_usage = (
            processes_max_of(seed),
            upstreams_of(seed),
            missing_usage_of(seed),
        )
        self._world = world
        self._acting: set[asyncio.Task[None]] = set()
        book = UpstreamBook(missing_usage) if upstream_count else None
        self._auditor = Auditor(world.violate, world.tell, world.loop.time, book)
        world.excuses = self._auditor.excuses
        told = self._auditor.wrote, self._auditor.claimed, self._auditor.removed
        self._store = StoreAccess(world, StoreData(world.now_ms, *told))
        self._operator = Operator(world, self._store, behaviours(missing_usage), self._auditor)
        self._node = SimulatedNode(world, self._auditor, keeps_owners=keeps_owners(seed))
        receivers, membership = Receivers(world, self._auditor), MembershipData(world.now_ms)
        work = Work(world)
        models: Models = SimulatedModel(world, self._auditor, work)
        if upstream_count:
            prices = session_terms(missing_usage).terms.models
            models = SimulatedUpstreams(world, self._store, self._auditor, work, prices, upstream_count)
        self._cluster = Cluster(
            world,
            self._store,
            membership,
            self._node,
            receivers,
            SimulatedDestinations(world, self._node, self._auditor),
            models,
            missing_usage,
            self._auditor,
            processes_max,
            treasury_pays=treasury_pays(seed),
        )
        placement_faults = Servers(self._cluster, self._spawn) if has_servers(seed) else PlansByChance(self._cluster)
        self._faults = Faults(world, self._cluster, placement_faults, self._spawn)
        self._front = FrontProcess(self._cluster)
        TreasuryProcess(self._cluster)
        self._auditor.holders.strict = processes_max is None
        self._holders: dict[str, Holders] = {}
        self._sessions: list[SessionClient] = []
        self._jobs: list[JobClient] = []
        self._market = Market(
            world, self._node, self._auditor, lambda: self._front, Waiting(world, work), has_destinations(seed)
        )

    async def go(self, steps: Sequence[Step]) -> dict[str, int]:
        """Run to the end, or until a promise is broken, and return the figures of the run."""
        watching = asyncio.create_task(self._world.broken.wait())
        living = asyncio.create_task(self._live(steps))
        await asyncio.wait([watching, living], return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            living.result()
        figures = {"seconds": int(self._world.loop.time()), "loop_steps": self._world.loop.steps}
        return figures | {"faults": self._world.fault_count} | self._auditor.summary()

    async def _live(self, steps: Sequence[Step]) -> None:
        if (processes_max := self._cluster.processes_max) is not None:
            self._world.tell(f"actors have processes of their own, at most {processes_max} on a host")
        beside = [asyncio.create_task(part.run()) for part in (self._faults.placement_faults, self._operator)]
        for step in steps:
            await self._world.pause(max(0.0, step.at_s - self._world.loop.time()))
            self._act(step)
        await self._world.pause(1)
        self._calm()
        await self._rest()
        for part in beside:
            part.cancel()
        self._auditor.close(self._store.data.sums)

    # The steps

    def _act(self, step: Step) -> None:
        chance = Chance(f"step {step.seed}")
        if step.fault is not None:
            if step.fault in self._world.faults:
                self._world.fault_count += 1
                self._world.tell(f"{step.number}: {step.fault}")
                self._strike(step.fault, chance)
            return
        action = self._action(step.name, chance)
        if action is not None:
            self._world.tell(f"{step.number}: {step.name}")
            self._spawn(self._client(action))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)

    async def _client(self, action: Coroutine[Any, Any, None]) -> None:
        try:
            await action
        except (RefusedError, LeftError):
            pass
        except Exception as error:
            self._world.violate(f"a client broke: {error!r}")

    def _action(self, name: str, chance: Chance) -> Coroutine[Any, Any, None] | None:
        market = self._market
        if name == "open":
            self._sessions.append(SessionClient(market, f"ses_{len(self._sessions)}_{chance.randint(0, 999)}"))
            return self._sessions[-1].open(chance)
        if name == "job":
            self._jobs.append(JobClient(market, f"job_{len(self._jobs)}_{chance.randint(0, 999)}"))
            return self._jobs[-1].run(chance)
        if name == "refund":
            jobs = [job for job in self._jobs if job.opened]
            return chance.choice(jobs).refund(chance) if jobs else None
        sessions = [session for session in self._sessions if session.opened]
        if not sessions:
            return None
        if name == "hold":
            funded = self._auditor.holders.funded
            sessions = [session for session in sessions if session.session_id in funded] or sessions
        open_ = [session for session in sessions if not session.closed]
        session = chance.choice((open_ if open_ and chance.happens(_OPEN_PART[name]) else sessions)[-6:])
        if name == "hold":
            holders = self._holders.get(session.session_id) or Holders(session)
            self._holders[session.session_id] = holders
            return holders.act(chance)
        actions = {"ask": session.ask, "top_up": session.top_up, "look": session.look, "close": session.close}
        return actions[name](chance)

    def _strike(self, fault: Fault, chance: Chance) -> None:
        match fault:
            case Fault.FRONT_DEATH:
                self._front.process.kill()
                self._front = FrontProcess(self._cluster)
            case Fault.TREASURY_DEATH if (treasury := self._cluster.treasury) is not None:
                treasury.process.kill()
                TreasuryProcess(self._cluster)
            case _:
                self._faults.strike(fault, chance)

    # The end

    def _calm(self) -> None:
        """End the faults, and let what is away come back."""
        self._world.tell("calm")
        self._world.calm = True
        self._faults.calm()

    async def _rest(self) -> None:
        """Wait until nothing is under way any more. Raises nothing: what never ends is reported as a violation."""
        calm_s = max(self._world.loop.time(), self._world.still_until_s)
        began_ms, until_s = START_MS + int(calm_s * 1_000), calm_s + _REST_S
        unrest: str | None = "it has not been looked"
        while self._world.loop.time() < until_s:
            await self._world.pause(_LOOK_EVERY_S)
            unrest = "clients still wait" if self._acting else self._auditor.unrest()
            # A process that stood still may yet do what it was about to do.
            if unrest is None and self._world.loop.time() > self._world.still_until_s + _LOOK_EVERY_S:
                return
            now_ms = self._world.now_ms()
            if now_ms > began_ms + LATE_MS and (late := self._auditor.late(now_ms)) is not None:
                self._world.violate(late)
                return
        self._world.violate(f"no rest after {_REST_S:.0f} s: {unrest}")

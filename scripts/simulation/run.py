"""One run: the steps of a seed, one after the other, then calm, rest, and the closing of the books."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from msgspec import json

from ...actors.domain.errors import RefusedError
from ...actors.placement import Placement
from ...actors.router import LinkError
from .auditor import Auditor
from .clients import JobClient, LeftError, Market, SessionClient
from .cluster import Cluster, FrontProcess, TreasuryProcess
from .hosting import HostProcess
from .loop import Chance, Process, SimulatedLoop
from .node import SimulatedNode
from .notices import LATE_MS
from .patching import simulated
from .plan import HOSTS, Step, rooms_of
from .receivers import Receivers
from .store import StoreAccess
from .store_data import StoreData
from .world import Fault, World

_REST_S: Final = 900.0
_LOOK_EVERY_S: Final = 5.0
_REPORT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `violation` None: all promises were kept."""

    seed: int
    violation: str | None
    history: Sequence[str]
    figures: dict[str, int] = field(default_factory=dict)


def run(seed: int, steps: Sequence[Step], faults: Collection[Fault]) -> Outcome:
    """Runs these steps of a seed, with these kinds of faults."""
    chance = Chance(f"run {seed}")
    loop = SimulatedLoop(chance)
    world = World(loop, chance, frozenset(faults))
    with simulated(loop, chance, world.log):
        try:
            loop.set_exception_handler(lambda _loop, context: _defect(world, context))
            figures = loop.run_until_complete(_Run(world, rooms_of(seed)).go(steps))
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

    def __init__(self, world: World, rooms_max: int | None) -> None:
        self._world = world
        self._rooms_max = rooms_max
        self._auditor = Auditor(world.violate, world.tell)
        self._store = StoreAccess(world, StoreData(world.now_ms, self._auditor.wrote, self._auditor.claimed))
        self._node = SimulatedNode(world, self._auditor)
        self._receivers = Receivers(world, self._auditor)
        told = self._auditor.asked, self._auditor.delivered
        self._cluster = Cluster(world, self._store, self._node, self._receivers, *told)
        self._front = FrontProcess(self._cluster)
        self._treasury = TreasuryProcess(self._cluster)
        self._market = Market(world, self._node, self._auditor, lambda: self._front)
        self._acting: set[asyncio.Task[None]] = set()
        self._silent: dict[str, int] = {}

    async def go(self, steps: Sequence[Step]) -> dict[str, int]:
        """Runs to the end, or until a promise is broken. The figures of the run."""
        watching = asyncio.create_task(self._world.broken.wait())
        living = asyncio.create_task(self._live(steps))
        await asyncio.wait([watching, living], return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            living.result()
        figures = {"seconds": int(self._world.loop.time()), "loop_steps": self._world.loop.steps}
        return figures | {"faults": self._world.fault_count} | self._auditor.summary()

    async def _live(self, steps: Sequence[Step]) -> None:
        if self._rooms_max is not None:
            self._world.tell(f"actors have processes of their own, at most {self._rooms_max} on a host")
        self._plan(HOSTS, 0.0)
        for host_id in HOSTS:
            self._cluster.hosts[host_id] = self._host(host_id)
        keeping = asyncio.create_task(self._keep())
        for step in steps:
            await self._world.pause(max(0.0, step.at_s - self._world.loop.time()))
            self._act(step)
        await self._world.pause(1)
        self._calm()
        await self._rest()
        keeping.cancel()
        self._auditor.close()

    def _host(self, host_id: str) -> HostProcess:
        return HostProcess(self._cluster, host_id, self._rooms_max)

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
            market.sessions.append(SessionClient(market, f"ses_{len(market.sessions)}_{chance.randint(0, 999)}"))
            return market.sessions[-1].open(chance)
        if name == "job":
            market.jobs.append(JobClient(market, f"job_{len(market.jobs)}_{chance.randint(0, 999)}"))
            return market.jobs[-1].run(chance)
        if name == "refund":
            jobs = [job for job in market.jobs if job.opened]
            return chance.choice(jobs).refund(chance) if jobs else None
        sessions = [session for session in market.sessions if session.opened]
        if not sessions:
            return None
        session = chance.choice(sessions[-6:])
        actions = {"ask": session.ask, "top_up": session.top_up, "look": session.look, "close": session.close}
        return actions[name](chance)

    def _strike(self, fault: Fault, chance: Chance) -> None:
        match fault:
            case Fault.HOST_DEATH:
                self._spawn(self._kill_host(chance.choice(HOSTS), chance.uniform(0.05, 5)))
            case Fault.HOST_END:
                self._spawn(self._end_host(chance.choice(HOSTS), chance.uniform(0, 5), chance.uniform(0.05, 5)))
            case Fault.HOST_STOP:
                self._spawn(self._stop(self._cluster.hosts[chance.choice(HOSTS)].process, chance.uniform(0.2, 40)))
            case Fault.MOVE:
                members = chance.sample(HOSTS, chance.randint(1, len(HOSTS)))
                self._plan(members, chance.choice([0.0, 2.5, 6.0]))
            case Fault.FRONT_DEATH:
                self._front.process.kill()
                self._front = FrontProcess(self._cluster)
            case Fault.TREASURY_DEATH:
                self._treasury.process.kill()
                self._treasury = TreasuryProcess(self._cluster)
            case Fault.CLOCK:
                host = self._cluster.hosts[chance.choice(HOSTS)]
                host.process.clock_error_ms = chance.choice([-2_000, -500, 1_000, 10_000, 60_000])
            case Fault.SOLO_DEATH | Fault.SOLO_STOP:
                self._strike_solo(fault, chance)
            case Fault.STORE_AWAY:
                self._spawn(self._away(chance.uniform(0.5, 10)))
            case Fault.NODE_AWAY:
                self._spawn(self._node_away(chance.uniform(0.5, 30)))
            case Fault.RECEIVER_AWAY:
                self._spawn(self._receivers_away(chance.uniform(0.5, 60)))

    async def _end_host(self, host_id: str, patience_s: float, away_s: float) -> None:
        """As a server does that ends. The actors find no host until it is back, or until the plan has others."""
        find = partial(self._cluster.host, host_id)
        with suppress(LinkError, TimeoutError):
            async with asyncio.timeout(patience_s + 1):
                await self._cluster.carry(find, lambda host: host.drain(patience_s))
        await self._kill_host(host_id, away_s)

    async def _kill_host(self, host_id: str, away_s: float) -> None:
        self._cluster.hosts[host_id].kill()
        await self._world.pause(away_s)
        if not self._cluster.hosts[host_id].process.alive:
            self._cluster.hosts[host_id] = self._host(host_id)
            self._world.tell(f"{host_id} is back")

    def _strike_solo(self, fault: Fault, chance: Chance) -> None:
        names = sorted(self._cluster.solos)
        if names and fault is Fault.SOLO_STOP:
            self._spawn(self._stop(self._cluster.solos[chance.choice(names)].process, chance.uniform(0.2, 40)))
        elif names:
            self._spawn(self._kill_solo(chance.choice(names), chance.uniform(0.05, 5)))

    async def _kill_solo(self, actor_id: str, away_s: float) -> None:
        solo = self._cluster.solos[actor_id]
        solo.process.kill()
        self._world.tell(f"{actor_id}'s process dies")
        await self._world.pause(away_s)
        solo.begin_again()

    async def _stop(self, process: Process, away_s: float) -> None:
        process.stop()
        self._world.tell(f"{process.name} stands still")
        await self._world.pause(away_s)
        process.go_on()
        self._world.tell(f"{process.name} goes on")

    async def _away(self, away_s: float) -> None:
        self._store.leave()
        await self._world.pause(away_s)
        self._store.come_back()
        self._world.tell("the store is back")

    async def _node_away(self, away_s: float) -> None:
        self._node.away = True
        self._node.hang_up()
        await self._world.pause(away_s)
        self._node.away = False
        self._world.tell("the node is back")

    async def _receivers_away(self, away_s: float) -> None:
        self._receivers.away = True
        await self._world.pause(away_s)
        self._receivers.away = False
        self._world.tell("receivers of webhooks are back")

    # What keeps the cluster in order

    def _plan(self, members: Sequence[str], patience_s: float) -> None:
        away = tuple(host_id for host_id in HOSTS if self._silent.get(host_id, 0) > 1)
        members = [host_id for host_id in members if host_id not in away] or members
        others = tuple(host_id for host_id in HOSTS if host_id not in members)
        version = self._cluster.placement.version + 1
        self._cluster.placement = Placement(version, tuple(sorted(members)), others, away, patience_s)
        self._world.tell(f"plan {version}: {' '.join(sorted(members))}, away: {' '.join(away)}")

    async def _keep(self) -> None:
        """Tells hosts the plan, and makes another one when a host goes silent or comes back."""
        while True:
            answers = await asyncio.gather(*(self._report(host_id) for host_id in HOSTS))
            before = {host_id for host_id in HOSTS if self._silent.get(host_id, 0) > 1}
            for host_id, answered in zip(HOSTS, answers, strict=True):
                self._silent[host_id] = 0 if answered else self._silent.get(host_id, 0) + 1
            after = {host_id for host_id in HOSTS if self._silent[host_id] > 1}
            if before != after and len(after) < len(HOSTS):
                self._plan([host_id for host_id in HOSTS if host_id not in after], 6.0)
            await self._world.pause(_REPORT_S)

    async def _report(self, host_id: str) -> bool:
        plan = json.encode(self._cluster.placement)
        with suppress(Exception):
            async with asyncio.timeout(1.5):
                await self._cluster.carry(partial(self._cluster.host, host_id), lambda host: host.report(plan))
                return True
        return False

    # The end

    def _calm(self) -> None:
        """Faults end, and what is away comes back."""
        self._world.tell("calm")
        self._world.calm = True
        self._receivers.away = False
        for host in self._cluster.hosts.values():
            host.process.clock_error_ms = 0

    async def _rest(self) -> None:
        """Waits until nothing is under way any more. Raises nothing; what never ends is told."""
        began_ms, until_s = self._world.now_ms(), self._world.loop.time() + _REST_S
        unrest: str | None = "it has not been looked"
        while self._world.loop.time() < until_s:
            await self._world.pause(_LOOK_EVERY_S)
            unrest = "clients still wait" if self._acting else self._auditor.unrest()
            if unrest is None:
                return
            now_ms = self._world.now_ms()
            if now_ms > began_ms + LATE_MS and (late := self._auditor.late(now_ms)) is not None:
                self._world.violate(late)
                return
        self._world.violate(f"no rest after {_REST_S:.0f} s: {unrest}")

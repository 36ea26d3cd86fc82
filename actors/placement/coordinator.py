"""Coordinator of the cluster: every server runs one, and the leading one starts, watches and places the hosts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
import structlog

from ..cancellation import cancel_and_wait
from ..host_link import LinkError, NoHostError
from ..partitioning import NO_PLACEMENT, PARTITIONS, Placement
from ..ports import PortError
from ..services.watch import Outage
from .failure_detector import FailureDetector
from .membership import ClusterView, Membership, Server
from .planner import Health, HostState, nodes_of, plan

_BEAT_S: Final = 1.0
# A host that missed an answer is asked again soon, to be sure.
_DOUBT_S: Final = 0.25
_ANSWERS_WITHIN_S: Final = 1.5
_COMES_WITHIN_S: Final = 20.0
# Ray has this time to bring a host back, on another node if need be. Then another host takes its place.
_AWAY_MAX_S: Final = 60.0
_log = structlog.get_logger(__name__)


class HostReport(msgspec.Struct, frozen=True):
    """Report of a host on itself: its node, the version of the plan it follows, and how much it owns."""

    node_id: str
    version: int
    owned: int


@dataclass(frozen=True, slots=True)
class Coming:
    """Progress of the hosts: their number, those that answer by the present plan, and the partitions that these own."""

    hosts: int
    answering: int
    partitions: int


class ProcessManager(Protocol):
    """Actor processes of the cluster."""

    async def start(self, host_id: str, node_id: str) -> None:
        """Start a host, on that node if it can be; do nothing when it exists. Raises `LinkError`."""
        ...

    async def ask(self, host_id: str, placement: Placement) -> HostReport:
        """Send a host the plan, and return its report. Raises `NoHostError`, `LinkError`."""
        ...

    async def end(self, host_id: str) -> None:
        """End a host for good. Raises nothing."""
        ...

    async def tend(self, node_ids: Sequence[str]) -> list[str]:
        """Have the oracle and the treasury run on one of these nodes; return those that were silent, and replaced."""
        ...


@dataclass(slots=True)
class _Known:
    """Host as this coordinator has come to know it."""

    node_id: str | None = None
    report: HostReport | None = None
    detector: FailureDetector = field(default_factory=FailureDetector)
    coming_until_s: float = 0.0
    away_since_s: float | None = None
    exists: bool = True
    asking: asyncio.Task[None] | None = None


class Coordinator:
    """Coordinator of the cluster, one on each server. One of them leads, and its decisions are a plan in the store.

    `settled`: the hosts own everything, by the word of a coordinator that leads.
    """

    def __init__(
        self,
        server: Server,
        membership: Membership,
        processes: ProcessManager,
        *,
        prefix: str = "host-",
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._server = server
        self._membership = membership
        self._processes = processes
        self._prefix = prefix
        self._clock = clock
        self._pause = pause
        self._hosts: dict[str, _Known] = {}
        self._store = Outage("cluster_roster")
        self._tending: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()
        self.view = ClusterView(leads=False, hosts_wanted=None, placement=NO_PLACEMENT, servers=())

    async def run(self) -> None:
        """Beat once a second until cancelled."""
        try:
            await self._keep_on()
        finally:
            # None of these tasks may start another actor while a caller ends all actors next.
            await cancel_and_wait([self._tending, *(known.asking for known in self._hosts.values())])

    async def _keep_on(self) -> None:
        while True:
            begun_s = self._clock()
            try:
                await self.step()
                self._store.recovered()
            except PortError as error:
                self._store.failed(error)
            except Exception:
                # A defect of ours must not leave the cluster without a coordinator.
                _log.exception("keeper_round_broke")
            in_doubt = any(known.detector.suspected for known in self._hosts.values())
            # A starting server waits until all partitions are served.
            waited_for = self.view.leads and not self.settled.is_set()
            # A step that took long must not make the next beat late: the lead would pass on.
            beat_s = max(_DOUBT_S, _BEAT_S - (self._clock() - begun_s))
            await self._pause(_DOUBT_S if in_doubt or waited_for else beat_s)

    async def step(self) -> None:
        """Beat once, and go once round the hosts if this server leads. Raises `TransientError`."""
        self.view = await self._membership.beat(self._server)
        if not self.view.leads:
            self._hosts.clear()
            return
        self._tend()
        await self._ask_all()
        todo = plan(self.view, self._states(), self._prefix)
        changed = todo.placement is not self.view.placement
        if changed:
            if not await self._membership.publish(self._server.server_id, todo.placement):
                return  # Another server leads now.
            # The first plan is part of every start, and no news to the person who watches it.
            log = _log.info if self.view.placement.members else _log.debug
            log("placement_planned", version=todo.placement.version, members=todo.placement.members)
            self.view = msgspec.structs.replace(self.view, placement=todo.placement)
        await asyncio.gather(*(self._start(host_id, node_id) for host_id, node_id in todo.start.items()))
        await asyncio.gather(*(self._end(host_id) for host_id in todo.end))
        self._forget()
        if changed:
            await self._ask_all()
        if self.coming.partitions == PARTITIONS:
            self.settled.set()

    def leave(self) -> None:
        """Have this server's node give away its partitions, from the next beat on."""
        self._server = msgspec.structs.replace(self._server, leaving=True)

    @property
    def coming(self) -> Coming:
        """Progress of the hosts of the present plan."""
        placement = self.view.placement
        reports = [self._hosts[host_id].report for host_id in placement.members if host_id in self._hosts]
        following = [report for report in reports if report is not None and report.version == placement.version]
        return Coming(len(placement.members), len(following), sum(report.owned for report in following))

    async def _ask_all(self) -> None:
        """Ask all hosts. Those that are away answer when they do: the others must not wait for them."""
        placement = self.view.placement
        for host_id in (*placement.members, *placement.others):
            self._hosts.setdefault(host_id, _Known())
        waited_for = []
        for host_id, known in self._hosts.items():
            if known.asking is None or known.asking.done():
                known.asking = asyncio.create_task(self._ask(host_id, known, placement))
            if not known.detector.silent:
                waited_for.append(known.asking)
        if waited_for:
            await asyncio.wait(waited_for)

    async def _ask(self, host_id: str, known: _Known, placement: Placement) -> None:
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                known.report = await self._processes.ask(host_id, placement)
        except NoHostError:
            known.exists = False
        except (LinkError, TimeoutError) as error:
            known.exists = True
            if known.detector.missed() and self._clock() >= known.coming_until_s:
                _log.warning("host_silent", host_id=host_id, error_type=type(error).__name__)
        else:
            known.exists, known.away_since_s = True, None
            known.detector.answered()
            # The host has come. From now on its silence means the same as any other host's.
            known.coming_until_s = 0.0

    def _states(self) -> Mapping[str, HostState]:
        return {host_id: self._state(known) for host_id, known in self._hosts.items()}

    def _state(self, known: _Known) -> HostState:
        report, now_s = known.report, self._clock()
        node_id, owned = (report.node_id, report.owned) if report else (known.node_id, 0)
        if not known.exists:
            return HostState(Health.GONE)
        if report is not None and not known.detector.misses_answers:
            return HostState(Health.ANSWERS, node_id, owned)
        if not known.detector.silent or now_s < known.coming_until_s:
            return HostState(Health.COMING, node_id, owned)
        known.away_since_s = known.away_since_s or now_s
        lost = now_s - known.away_since_s >= _AWAY_MAX_S
        return HostState(Health.LOST if lost else Health.AWAY, node_id, owned)

    async def _start(self, host_id: str, node_id: str) -> None:
        known = self._hosts[host_id] = _Known(node_id, coming_until_s=self._clock() + _COMES_WITHIN_S)
        try:
            await self._processes.start(host_id, node_id)
        except LinkError as error:
            known.exists = False
            _log.warning("host_not_started", host_id=host_id, error=str(error))

    async def _end(self, host_id: str) -> None:
        _log.info("host_not_needed", host_id=host_id)
        await self._processes.end(host_id)
        self._hosts.pop(host_id, None)

    def _forget(self) -> None:
        """Drop hosts that are gone and not to come again."""
        placement = self.view.placement
        for host_id in self._hosts.keys() - {*placement.members, *placement.others}:
            del self._hosts[host_id]

    def _tend(self) -> None:
        """Look after the other actors, beside the hosts: they may take seconds to answer."""
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._tend_once(sorted(nodes_of(self.view.servers))))

    async def _tend_once(self, node_ids: Sequence[str]) -> None:
        silent = await self._processes.tend(node_ids) if node_ids else []
        if silent:
            _log.warning("actors_replaced", actors=silent)

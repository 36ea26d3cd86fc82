"""Placement of a run's hosts, and its faults: plans drawn by lot, or the program's own coordinators (`servers.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from msgspec import json

from ...actors.partitioning import Placement
from .cluster import Cluster
from .hosts import HostProcess
from .loop import Chance
from .plan import HOSTS
from .world import Fault

_REPORT_S: Final = 2.0
_ANSWERS_WITHIN_S: Final = 1.5


class PlacementFaults(Protocol):
    """Placement, which starts hosts and says which host owns what, and its faults."""

    async def run(self) -> None:
        """Keep hosts in order until cancelled."""
        ...

    def strike(self, fault: Fault, chance: Chance) -> None:
        """Move partitions, or have a fault in the placement itself."""
        ...

    def gone(self, node_id: str) -> bool:
        """Return whether this machine is lost."""
        ...


class PlansByChance:
    """`PlacementFaults` with three hosts that are there, or soon again, and plans that no coordinator would make."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._silent: dict[str, int] = {}

    async def run(self) -> None:
        """Send hosts the plan, and make another one when a host goes silent or comes back."""
        self._plan(HOSTS, 0.0)
        for host_id in HOSTS:
            self._cluster.hosts[host_id] = HostProcess(self._cluster, host_id)
        while True:
            answers = await asyncio.gather(*(self._report(host_id) for host_id in HOSTS))
            before = {host_id for host_id in HOSTS if self._silent.get(host_id, 0) > 1}
            for host_id, answered in zip(HOSTS, answers, strict=True):
                self._silent[host_id] = 0 if answered else self._silent.get(host_id, 0) + 1
            after = {host_id for host_id in HOSTS if self._silent[host_id] > 1}
            if before != after and len(after) < len(HOSTS):
                self._plan([host_id for host_id in HOSTS if host_id not in after], 6.0)
            await self._cluster.world.pause(_REPORT_S)

    def strike(self, fault: Fault, chance: Chance) -> None:
        """Let some hosts, drawn by lot, share the partitions from now on; others perhaps, before they have them."""
        self._plan(_some(chance), chance.choice([0.0, 2.5, 6.0]))
        if chance.happens(0.5):
            members, patience_s = _some(chance), chance.choice([0.0, 2.5, 6.0])
            self._cluster.world.later(chance.uniform(0.01, 1.5), self._plan_again, members, patience_s)

    def gone(self, node_id: str) -> bool:
        """Return False: no machine is ever lost here."""
        return False

    def _plan_again(self, members: Sequence[str], patience_s: float) -> None:
        if not self._cluster.world.calm:
            self._plan(members, patience_s)

    def _plan(self, members: Sequence[str], patience_s: float) -> None:
        membership = self._cluster.membership
        away = tuple(host_id for host_id in HOSTS if self._silent.get(host_id, 0) > 1)
        members = [host_id for host_id in members if host_id not in away] or members
        others = tuple(host_id for host_id in HOSTS if host_id not in members)
        version = membership.placement.version + 1
        membership.placement = Placement(version, tuple(sorted(members)), others, away, patience_s)
        self._cluster.world.tell(f"plan {version}: {' '.join(sorted(members))}, away: {' '.join(away)}")

    async def _report(self, host_id: str) -> bool:
        plan = json.encode(self._cluster.membership.placement)
        with suppress(Exception):
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                await self._cluster.carry(partial(self._cluster.host, host_id), lambda host: host.report(plan))
                return True
        return False


def _some(chance: Chance) -> Sequence[str]:
    return chance.sample(HOSTS, chance.randint(1, len(HOSTS)))

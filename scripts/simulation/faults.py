"""Faults of a run's processes, of its store, and of what lies outside."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ...actors.host_link import LinkError
from .cluster import Cluster
from .hosts import HostProcess
from .loop import Chance
from .placement_faults import PlacementFaults
from .servers import Spawn
from .world import Fault, World, stop_s


@dataclass(eq=False)
class Faults:
    """Faults as the steps order them; what goes away for a while comes back by itself."""

    world: World
    cluster: Cluster
    placement_faults: PlacementFaults
    spawn: Spawn

    def strike(self, fault: Fault, chance: Chance) -> None:
        """Strike something, drawn by lot, with this fault."""
        hosts, dedicated_processes = sorted(self.cluster.hosts), sorted(self.cluster.dedicated_processes)
        match fault:
            case Fault.HOST_DEATH | Fault.HOST_END | Fault.HOST_STOP | Fault.CLOCK if hosts:
                self._strike_host(fault, chance.choice(hosts), chance)
            case Fault.DEDICATED_STOP if dedicated_processes:
                self.world.stand_still(
                    self.cluster.dedicated_processes[chance.choice(dedicated_processes)].process, stop_s(chance)
                )
            case Fault.DEDICATED_DEATH if dedicated_processes:
                self.spawn(self._kill_dedicated(chance.choice(dedicated_processes), chance.uniform(0.05, 5)))
            case Fault.MOVE | Fault.SERVER_DEATH | Fault.SERVER_STOP | Fault.MACHINE_DEATH:
                self.placement_faults.strike(fault, chance)
            case Fault.STORE_AWAY:
                self.spawn(self._store_away(chance.uniform(0.5, 10)))
            case Fault.NODE_AWAY:
                self.spawn(self._node_away(chance.uniform(0.5, 30)))
            case Fault.RECEIVER_AWAY:
                self.spawn(self._receivers_away(chance.uniform(0.5, 60)))

    def calm(self) -> None:
        """End the faults that do not end by themselves."""
        self.cluster.receivers.away = False
        for host in self.cluster.hosts.values():
            host.process.clock_error_ms = 0

    def _strike_host(self, fault: Fault, host_id: str, chance: Chance) -> None:
        match fault:
            case Fault.HOST_DEATH:
                self.spawn(self._kill_host(host_id, chance.uniform(0.05, 5)))
            case Fault.HOST_END:
                self.spawn(self._end_host(host_id, chance.uniform(0, 5), chance.uniform(0.05, 5)))
            case Fault.HOST_STOP:
                self.world.stand_still(self.cluster.hosts[host_id].process, stop_s(chance))
            case Fault.CLOCK:
                error_ms = chance.choice([-2_000, -500, 1_000, 10_000, 60_000])
                self.cluster.hosts[host_id].process.clock_error_ms = error_ms
                self.world.clocks_ahead_s = max(self.world.clocks_ahead_s, error_ms / 1_000)

    async def _end_host(self, host_id: str, patience_s: float, away_s: float) -> None:
        """End a host in good order.

        The actors find no host until it is back, or until the plan has others.
        """
        find = partial(self.cluster.host, host_id)
        with suppress(LinkError, TimeoutError):
            async with asyncio.timeout(patience_s + 1):
                await self.cluster.carry(find, lambda host: host.drain(patience_s))
        await self._kill_host(host_id, away_s)

    async def _kill_host(self, host_id: str, away_s: float) -> None:
        host = self.cluster.hosts.get(host_id)
        if host is None:
            return
        host.kill()
        await self.world.pause(away_s)
        # The host stays away if it was ended, or is gone with its machine.
        if self.cluster.hosts.get(host_id) is host and not self.placement_faults.gone(host.node_id):
            self.cluster.hosts[host_id] = HostProcess(self.cluster, host_id, host.node_id)
            self.world.tell(f"{host_id} is back")

    async def _kill_dedicated(self, actor_id: str, away_s: float) -> None:
        dedicated_process = self.cluster.dedicated_processes[actor_id]
        dedicated_process.process.kill()
        self.world.tell(f"{actor_id}'s process dies")
        await self.world.pause(away_s)
        dedicated_process.begin_again()

    async def _store_away(self, away_s: float) -> None:
        self.cluster.store.leave()
        await self.world.pause(away_s)
        self.cluster.store.come_back()
        self.world.tell("the store is back")

    async def _node_away(self, away_s: float) -> None:
        self.cluster.node.away = True
        self.cluster.node.hang_up()
        await self.world.pause(away_s)
        self.cluster.node.away = False
        self.world.tell("the node is back")

    async def _receivers_away(self, away_s: float) -> None:
        self.cluster.receivers.away = True
        await self.world.pause(away_s)
        self.cluster.receivers.away = False
        self.world.tell("receivers of webhooks are back")

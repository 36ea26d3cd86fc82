"""Servers of a run, each on a machine of its own with the program's real coordinator in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from msgspec import json

from ...actors.host_link import LinkError
from ...actors.partitioning import Placement
from ...actors.placement.coordinator import Coordinator, HostReport
from ...actors.placement.membership import Server
from ...actors.ports import TransientError
from .cluster import Cluster
from .hosts import HostProcess
from .loop import Chance, Process
from .store.membership import SimulatedMembership
from .world import Fault

Spawn = Callable[[Coroutine[Any, Any, None]], None]
_CPUS: Final = (2, 1)
_MOVED_WITHIN_S: Final = 11.0
_LOOK_EVERY_S: Final = 0.5
_HOSTS_MAX: Final = 4
# The longest that Ray takes to notice that a machine is gone.
_NOTICED_MAX_S: Final = 20.0


class SimulatedProcessManager:
    """`ProcessManager` that does what `RayProcessManager` does."""

    def __init__(self, cluster: Cluster, dead: set[str]) -> None:
        self._cluster = cluster
        self._dead = dead

    async def start(self, host_id: str, node_id: str) -> None:
        """Start a host (see `ProcessManager`). Raises `LinkError`."""
        world = self._cluster.world
        await world.pause(world.chance.uniform(0.01, 0.2))
        if node_id in self._dead or world.strikes(Fault.START_FAILS, 0.1):
            raise LinkError(f"{host_id} can't be started")
        if host_id not in self._cluster.hosts:
            self._cluster.hosts[host_id] = HostProcess(self._cluster, host_id, node_id)
            world.tell(f"{host_id} is started on {node_id}")

    async def ask(self, host_id: str, placement: Placement) -> HostReport:
        """Send a host the plan, and return its report. Raises `NoHostError`, `LinkError`."""
        plan, find = json.encode(placement), partial(self._cluster.host, host_id)
        return json.decode(await self._cluster.carry(find, lambda host: host.report(plan)), type=HostReport)

    async def end(self, host_id: str) -> None:
        """End a host for good."""
        await self._cluster.world.pause(self._cluster.world.chance.uniform(0.001, 0.05))
        host = self._cluster.hosts.pop(host_id, None)
        if host is not None:
            self._cluster.world.tell(f"{host_id} is ended")
            host.kill()

    async def tend(self, node_ids: Sequence[str]) -> list[str]:
        """Do nothing: the run looks after the treasury."""
        return []


class ServerProcess:
    """A `satmeter serve`, as far as it keeps the cluster in order."""

    def __init__(self, cluster: Cluster, dead: set[str], number: int, node_id: str, cpus: int) -> None:
        world = cluster.world
        self.node_id, self.cpus = node_id, cpus
        self.server_id = f"server-{number}"
        self.process = Process(self.server_id, world.loop)
        self.membership = SimulatedMembership(cluster.store, cluster.membership)
        server = Server(self.server_id, node_id, f"{self.server_id}:8402", cpus, "key")
        self.coordinator = Coordinator(
            server, self.membership, SimulatedProcessManager(cluster, dead), clock=world.loop.time
        )
        self._coordinating = self.process.spawn(self.coordinator.run())
        world.tell(f"{self.server_id} begins on {node_id}")

    async def leave(self) -> None:
        """Take part no longer."""
        self._coordinating.cancel()
        await asyncio.gather(self._coordinating, return_exceptions=True)
        with suppress(TransientError):
            await self.membership.leave(self.server_id)


class Servers:
    """`PlacementFaults` by servers that come, end, die, stand still, and lose their machines with all that is there."""

    def __init__(self, cluster: Cluster, spawn: Spawn) -> None:
        self._cluster = cluster
        self._spawn = spawn
        self._count = 0
        self._dead: set[str] = set()
        self._servers: list[ServerProcess] = []

    async def run(self) -> None:
        """Start the servers, which do the rest."""
        for number, cpus in enumerate(_CPUS):
            self._begin(f"node-{number}", cpus)

    def _begin(self, node_id: str, cpus: int) -> None:
        self._servers.append(ServerProcess(self._cluster, self._dead, self._count, node_id, cpus))
        self._count += 1

    def strike(self, fault: Fault, chance: Chance) -> None:
        """Move partitions by what an operator does, or let a server have trouble."""
        if not self._servers:
            return
        server = chance.choice(self._servers)
        away_s = chance.uniform(0.1, 25)
        match fault:
            case Fault.MOVE if chance.happens(0.6):
                self._cluster.membership.want_hosts(chance.randint(1, _HOSTS_MAX))
            case Fault.MOVE:
                self._spawn(self._upgrade(server, chance.uniform(0.1, 5)))
            case Fault.SERVER_DEATH:
                self._spawn(self._lose(server, away_s))
            case Fault.SERVER_STOP:
                self._cluster.world.stand_still(server.process, chance.uniform(0.2, 40))
            case Fault.MACHINE_DEATH:
                self._spawn(self._lose_machine(server, away_s, chance.uniform(1, _NOTICED_MAX_S)))

    def gone(self, node_id: str) -> bool:
        """Return whether this machine is lost."""
        return node_id in self._dead

    async def _upgrade(self, server: ServerProcess, away_s: float) -> None:
        """End a server as an operator does, and start another in its place; see `server/cluster_member.py`."""
        world = self._cluster.world
        world.tell(f"{server.server_id} is told to end")
        self._servers.remove(server)
        server.coordinator.leave()
        until_s = world.loop.time() + _MOVED_WITHIN_S
        while world.loop.time() < until_s and self._hosts_on(server.node_id) and self._servers:
            await world.pause(_LOOK_EVERY_S)
        leaving = server.process.spawn(server.leave())
        await asyncio.wait([leaving], timeout=_MOVED_WITHIN_S)
        server.process.kill()
        await world.pause(away_s)
        if server.node_id not in self._dead:
            self._begin(server.node_id, server.cpus)

    async def _lose(self, server: ServerProcess, away_s: float) -> None:
        self._kill(server)
        await self._cluster.world.pause(away_s)
        if server.node_id not in self._dead:
            self._begin(server.node_id, server.cpus)

    async def _lose_machine(self, server: ServerProcess, away_s: float, noticed_s: float) -> None:
        """Lose a machine with all that runs there, and start a new one.

        Ray does not know at once that the hosts are gone.
        """
        world, hosts = self._cluster.world, self._hosts_on(server.node_id)
        self._dead.add(server.node_id)
        self._kill(server)
        for host_id in hosts:
            self._cluster.hosts[host_id].kill()
        lost = [self._cluster.hosts[host_id] for host_id in hosts]

        def notice() -> None:
            for host_id, host in zip(hosts, lost, strict=True):
                if self._cluster.hosts.get(host_id) is host:
                    del self._cluster.hosts[host_id]

        world.later(noticed_s, notice)
        await world.pause(away_s)
        self._begin(f"node-{self._count}", server.cpus)

    def _kill(self, server: ServerProcess) -> None:
        self._cluster.world.tell(f"{server.server_id} dies on {server.node_id}")
        if server in self._servers:
            self._servers.remove(server)
        server.process.kill()

    def _hosts_on(self, node_id: str) -> list[str]:
        return sorted(host_id for host_id, host in self._cluster.hosts.items() if host.node_id == node_id)

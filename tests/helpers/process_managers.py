"""The actor processes of a cluster, played by a test: hosts that start, answer, fall silent, and are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from satmeter.actors.host_link import LinkError, NoHostError
from satmeter.actors.partitioning import NO_PLACEMENT, Placement, owned_by
from satmeter.actors.placement.coordinator import HostReport


class Mood(Enum):
    """Mood of a host: answer, break the connection, or let the caller wait."""

    ANSWERS = "answers"
    BREAKS = "breaks"
    HANGS = "hangs"


@dataclass
class PlayedHost:
    """A host. `clings`: it does not give away what it owns."""

    node_id: str
    mood: Mood = Mood.ANSWERS
    clings: bool = False
    placement: Placement = NO_PLACEMENT
    owned: int = 0

    def adopt(self, host_id: str, placement: Placement) -> None:
        """Follows a plan, at once."""
        if placement.version > self.placement.version:
            self.placement = placement
            wanted = len(owned_by(host_id, placement.members))
            self.owned = max(wanted, self.owned) if self.clings else wanted


@dataclass
class PlayedProcessManager:
    """Implements `ProcessManager`. What it was asked for stands in `started`, `ended` and `tended`."""

    hosts: dict[str, PlayedHost] = field(default_factory=dict)
    started: list[tuple[str, str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    tended: list[Sequence[str]] = field(default_factory=list)
    refuses: bool = False
    silent: list[str] = field(default_factory=list)
    tending_hangs: bool = False
    first_mood: Mood = Mood.ANSWERS

    async def start(self, host_id: str, node_id: str) -> None:
        self.started.append((host_id, node_id))
        if self.refuses:
            raise LinkError("no room")
        self.hosts.setdefault(host_id, PlayedHost(node_id, self.first_mood))

    async def ask(self, host_id: str, placement: Placement) -> HostReport:
        host = self.hosts.get(host_id)
        if host is None:
            raise NoHostError("none")
        if host.mood is Mood.HANGS:
            await asyncio.Event().wait()
        if host.mood is Mood.BREAKS:
            raise LinkError("broken")
        host.adopt(host_id, placement)
        return HostReport(host.node_id, host.placement.version, host.owned)

    async def end(self, host_id: str) -> None:
        self.ended.append(host_id)
        self.hosts.pop(host_id, None)

    async def tend(self, node_ids: Sequence[str]) -> list[str]:
        self.tended.append(node_ids)
        if self.tending_hangs:
            await asyncio.Event().wait()
        return self.silent

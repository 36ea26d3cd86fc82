"""Several hosts between which partitions move, on a real store, with a router to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from satmeter.actors.host.handover import Handover
from satmeter.actors.host.host import ActorHost
from satmeter.actors.host_link import LinkError, NoHostError
from satmeter.actors.messages import Answer, Call, Cancel
from satmeter.actors.partitioning import NO_PLACEMENT, PARTITIONS, Placement, owned_by, partition_of
from satmeter.actors.router.router import Router
from tests.helpers.hosts import World, until


class Member:
    """A host as others reach it, until it dies. Implements `HostLink` and `Peer`. `asked`: what it was to hand over."""

    def __init__(self, host: ActorHost, handover: Handover) -> None:
        self.host = host
        self.handover = handover
        self.asked: list[Sequence[int]] = []
        self._dead = asyncio.Event()

    async def submit(self, queue_id: str, calls: Sequence[Call | Cancel]) -> None:
        self._must_live()
        await self.host.submit(queue_id, calls)

    async def collect(self, queue_id: str) -> Sequence[Answer]:
        self._must_live()
        collecting, death = asyncio.create_task(self.host.collect(queue_id)), asyncio.create_task(self._dead.wait())
        try:
            await asyncio.wait({collecting, death}, return_when=asyncio.FIRST_COMPLETED)
            self._must_live()
            return collecting.result()
        finally:
            collecting.cancel()
            death.cancel()

    async def close(self) -> None:
        pass

    async def hand_over(self, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
        self.asked.append(partitions)
        self._must_live()
        return await self.handover.hand_over(placement, partitions)

    def die(self) -> None:
        """Nobody reaches it any more. What it has under way goes on, as with one that only seems dead."""
        self._dead.set()

    def _must_live(self) -> None:
        if self._dead.is_set():
            raise LinkError("dead")


class Fleet:
    """The hosts by their ids."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.members: dict[str, Member] = {}
        self.placement = NO_PLACEMENT
        self.router = Router(world.journal.owners, self._reach)

    def _reach(self, host_id: str) -> Member:
        if host_id not in self.members:
            raise NoHostError("no such host")
        return self.members[host_id]

    async def start(self, *host_ids: str) -> None:
        """Starts hosts that own nothing yet."""
        for host_id in host_ids:
            host = self.world.host(host_id=host_id)
            self.members[host_id] = Member(host, Handover(host_id, host, self.world.journal, self._reach))
            await host.start()

    def plan(self, *host_ids: str, away: tuple[str, ...] = (), patience_s: float = 5.0) -> None:
        """Tells all hosts that live of the plan by which these are to share everything."""
        others = tuple(host_id for host_id in self.members if host_id not in host_ids)
        self.placement = Placement(self.placement.version + 1, host_ids, others, away, patience_s)
        for member in self.members.values():
            member.handover.adopt(self.placement)

    async def moved(self) -> None:
        """Returns once everything is where the plan wants it."""

        async def in_place() -> bool:
            owners = await self.world.journal.owners(range(PARTITIONS))
            members = self.placement.members
            # The store knows of a claim a moment before its host does.
            return all(
                owners.get(p) == host_id and p in self.members[host_id].host.partitions
                for host_id in members
                for p in owned_by(host_id, members)
            )

        await until(in_place)

    def holds(self, host_id: str, actor_id: str) -> bool:
        """Return whether a host takes the actor for its own."""
        return partition_of(actor_id) in self.members[host_id].host.partitions

    async def close(self) -> None:
        """Ends all."""
        await self.router.close()
        for member in self.members.values():
            member.handover.close()
            await member.host.stop(patience_s=0)

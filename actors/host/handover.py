"""Handover of partitions as the plan says: former owners are asked to give away, dead ones are not."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

import structlog

from ..host_link import LinkError, NoHostError
from ..partitioning import NO_PLACEMENT, Placement, owned_by
from ..ports import Journal, TransientError
from .partitions import Partitions

# A former owner answers every second while it still gives away. One that is silent for so long is taken for dead, and
# its partitions are taken over. If it lives, the store refuses its writes.
_PEER_ANSWERS_WITHIN_S: Final = 3.0
_LOOK_EVERY_S: Final = 0.01
_HAND_OVER_LOOKS: Final = 100
_RETRY_S: Final = 0.2
_VERIFY_EVERY_S: Final = 10.0
_log = structlog.get_logger(__name__)


class Peer(Protocol):
    """Another host."""

    async def hand_over(self, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
        """Have the host give partitions away; return, within a second, those that it doesn't own any more.

        Raises `LinkError`.
        """
        ...


class Host(Protocol):
    """Host of either placement."""

    partitions: Partitions

    async def take(self, partitions: Collection[int]) -> None:
        """Take partitions over. Raises `TransientError`."""
        ...


class Handover:
    """One host's part in moving partitions. A new owner asks for its partitions; no host gives away unasked.

    So no partition goes unserved before there is a host to serve it, and a dead owner is found by asking it.
    """

    def __init__(self, host_id: str, host: Host, journal: Journal, peer: Callable[[str], Peer]) -> None:
        self._host_id = host_id
        self._host = host
        self._journal = journal
        self._peer = peer
        self._wanted: frozenset[int] = frozenset()
        self._verify_at_s = 0.0
        self._settling: asyncio.Task[None] | None = None
        self.placement = NO_PLACEMENT

    def adopt(self, placement: Placement) -> None:
        """Follow this plan, unless a newer one is known; asked again, look again for missing partitions."""
        if placement.version > self.placement.version:
            self.placement = placement
            self._wanted = frozenset(owned_by(self._host_id, placement.members))
            self._host.partitions.keep(self._wanted)
        if self._lacking and (self._settling is None or self._settling.done()):
            self._settling = asyncio.create_task(self._settle())

    async def hand_over(self, placement: Placement, partitions: Sequence[int]) -> Sequence[int]:
        """See `Peer.hand_over`."""
        self.adopt(placement)
        asked = frozenset(partitions) - self._wanted
        self._host.partitions.give(asked, self.placement.patience_s)
        for _ in range(_HAND_OVER_LOOKS):
            if not asked.issubset(self._host.partitions.owned):
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        return [partition for partition in asked if partition not in self._host.partitions]

    async def verify_now_and_then(self) -> None:
        """Find out what others have taken over.

        The store refuses the writes of a host that has lost a partition, but a host that only reads would not notice.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._verify_at_s:
            self._verify_at_s = now_s + _VERIFY_EVERY_S
            with contextlib.suppress(TransientError):
                await self._host.partitions.verify()

    def close(self) -> None:
        """Stop taking partitions over."""
        if self._settling is not None:
            self._settling.cancel()

    @property
    def _lacking(self) -> frozenset[int]:
        return self._wanted.difference(self._host.partitions.owned)

    async def _settle(self) -> None:
        while self._lacking:
            try:
                await self._take_what_is_lacking()
            except TransientError as error:
                _log.warning("takeover_failed", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _take_what_is_lacking(self) -> None:
        lacking = sorted(self._lacking)
        owners = await self._journal.owners(lacking)
        by_owner: dict[str, list[int]] = defaultdict(list)
        for partition in lacking:
            owner = owners.get(partition, self._host_id)
            # A partition that the store calls this host's own belonged to its former life.
            by_owner[self._host_id if owner in self.placement.away else owner].append(partition)
        await self._take(by_owner.pop(self._host_id, ()))
        await asyncio.gather(*(self._take_from(owner, partitions) for owner, partitions in by_owner.items()))

    async def _take_from(self, owner: str, partitions: Sequence[int]) -> None:
        # The plan may have changed since these were found lacking. The other never gives those that are its own by now.
        left, placement = set(self._wanted.intersection(partitions)), self.placement
        while left and self.placement is placement:
            try:
                async with asyncio.timeout(_PEER_ANSWERS_WITHIN_S):
                    released = set(await self._peer(owner).hand_over(placement, sorted(left))) & left
            except NoHostError:
                released = set(left)  # The host of a server that has ended.
            except (LinkError, TimeoutError) as error:
                _log.warning("takeover_from_silent_host", host_id=owner, error_type=type(error).__name__)
                released = set(left)
            await self._take(released)
            left -= released

    async def _take(self, partitions: Collection[int]) -> None:
        # The plan may have changed while a former owner was asked.
        await self._host.take(self._wanted.intersection(partitions))

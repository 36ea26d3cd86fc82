"""The running totals of what the wallet must hold, against the journals that they were kept beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..actors.adapters.redis_audit import AuditStore
from ..actors.adapters.redis_scan import ActorKey
from ..actors.domain.behaviour import Behaviour
from .audit_fold import Difference, fold
from .audit_ledger import Ledger


class Totals:
    """Compares the totals of partitions. `uncounted` holds those without one: no server that keeps it has had them."""

    def __init__(self, store: AuditStore, ledger: Ledger, behaviours: Mapping[str, Behaviour[Any]]) -> None:
        self._store = store
        self._ledger = ledger
        self._behaviours = behaviours
        self.uncounted: set[int] = set()

    async def difference(self, partition: int) -> Difference | None:
        """What does not agree at one moment, of the actors in the ledger. Raises `TransientError`."""
        actors = self._ledger.in_partition(partition)
        total = await self._store.total(partition, [actor_id for actor_id, _, _ in actors])
        if total.liability_msat is None:
            if actors:
                self.uncounted.add(partition)
            return None
        expected = 0
        for (actor_id, length, liability), length_then in zip(actors, total.lengths, strict=True):
            expected += (
                liability if length_then == length else await self._at(ActorKey(partition, actor_id), length_then)
            )
        if expected == total.liability_msat:
            return None
        what = f"the running total of partition {partition} is not what its journals add up to"
        return Difference(what, None, None, f"{expected} msat", f"{total.liability_msat} msat")

    async def _at(self, key: ActorKey, length: int) -> int:
        """What the wallet had to hold for an actor when its journal was so long: it has grown since it was read."""
        for stored in await self._store.read([key]) if length else ():
            then = stored._replace(length=length, snapshot=None, snapshot_version=0, events=stored.events[:length])
            return (await fold(then, self._store, self._behaviours)).books.liability
        return 0

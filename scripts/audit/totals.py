"""Running totals of what the wallet must hold, against the journals that they were kept beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...actors.adapters.redis.audit import AuditStore
from ...actors.adapters.redis.scan import ActorKey
from ...actors.domain.behaviour import Behaviour
from .difference import Difference
from .payments import Ledger
from .replay import fold

_NAMED_MAX: Final = 3


class Totals:
    """Totals of partitions, compared with journals. `uncounted`: those that no server keeping totals has had."""

    def __init__(self, store: AuditStore, ledger: Ledger, behaviours: Mapping[str, Behaviour[Any]]) -> None:
        self._store = store
        self._ledger = ledger
        self._behaviours = behaviours
        self.uncounted: set[int] = set()

    async def difference(self, partition: int) -> Difference | None:
        """Return a difference between the total and the actors in the ledger at one moment.

        Raises `TransientError`.
        """
        actors = self._ledger.in_partition(partition)
        total = await self._store.total(partition, [actor_id for actor_id, _, _ in actors])
        if not total.readable:
            return Difference(f"the running total of partition {partition} is not a number")
        if actors and not total.claimed:
            # The host that claims the partition next takes it for empty.
            what = f"partition {partition} has journals, and no epoch: no host ever had it"
            return Difference(f"{what}{_whose(actors)}")
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
        what = f"the running total of partition {partition} is not what its journals add up to{_whose(actors)}"
        return Difference(what, None, None, f"{expected} msat", f"{total.liability_msat} msat")

    async def _at(self, key: ActorKey, length: int) -> int:
        """Return what the wallet had to hold for an actor when its journal had this length.

        The journal has grown since it was read.
        """
        for stored in await self._store.read([key]) if length else ():
            then = stored._replace(length=length, snapshot=None, snapshot_version=0, events=stored.events[:length])
            return (await fold(then, self._store, self._behaviours)).books.liability
        return 0


def _whose(actors: Sequence[tuple[str, int, int]]) -> str:
    """Name the actors to look at."""
    if not actors:
        return " (there are none)"
    names = ", ".join(actor_id for actor_id, _, _ in actors[:_NAMED_MAX])
    return f" (those of {names}{f' and {len(actors) - _NAMED_MAX} more' if len(actors) > _NAMED_MAX else ''})"


def archive_differences(found: Mapping[str, int], archived: Mapping[str, int | None]) -> Sequence[Difference]:
    """Return a difference between what archives hold and what was archived; only the first of several."""
    for name, expected in archived.items():
        own = found[name.removesuffix("_msat")]
        if expected is None:
            return [Difference(f"the archived amount is not a number in some partition's totals (archived_{name})")]
        if own != expected:
            what = "was a line of one changed or added" if own > expected else "is one missing, or a line in one"
            text = f"the archives named with --archive do not hold what was archived ({name}): {what}?"
            return [Difference(text, None, None, str(expected), str(own))]
    return []

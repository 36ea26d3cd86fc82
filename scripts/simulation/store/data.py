"""Store of a run, in memory: what the scripts in `actors/adapters/redis` do, each in one step.

`tests/unit/actors/adapters/redis/test_journal.py` holds it to the real ones.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ....actors.ports import Append, ConflictError, Due, FencedError, Stored

_NOBODY = ""


@dataclass(slots=True)
class _Actor:
    """The keys of an actor: its list of events, and its snapshot with the version that it stands for."""

    events: list[bytes] = field(default_factory=list)
    snapshot: bytes | None = None
    snapshot_version: int = 0
    expires_at_ms: int | None = None


@dataclass(slots=True)
class _Partition:
    epoch: int = 0
    owner: str | None = None
    due: dict[str, int] = field(default_factory=dict)
    actors: dict[str, _Actor] = field(default_factory=dict)


class StoreData:
    """Data of the store, with the calls of `Journal` and `Bindings` without waiting.

    Each callback comes after its operation: `wrote` after a write, `claimed` after a new epoch of a partition, and
    `removed` after the deletion of an archived actor, with its length.

    Times are the store's own: what expires is gone at its time, whatever the hosts' clocks say.
    """

    def __init__(
        self,
        now_ms: Callable[[], int],
        wrote: Callable[[Append], None] = lambda append: None,
        claimed: Callable[[int, int], None] = lambda partition, epoch: None,
        removed: Callable[[str, int], None] = lambda actor_id, length: None,
    ) -> None:
        self._now_ms = now_ms
        self._wrote = wrote
        self._claimed = claimed
        self._removed = removed
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)
        self._kept: dict[tuple[str, str], tuple[bytes, int]] = {}
        self._bound: dict[str, tuple[str, int | None]] = {}
        self._payouts: dict[str, str] = {}
        self.sums: Counter[tuple[int, str]] = Counter()

    def claim(self, partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
        """See `Journal.claim`."""
        for partition in partitions:
            held = self._partitions[partition]
            held.owner, held.epoch = host_id, held.epoch + 1
            self._claimed(partition, held.epoch)
        return {partition: self._partitions[partition].epoch for partition in partitions}

    def owners(self, partitions: Sequence[int]) -> Mapping[int, str]:
        """See `Journal.owners`."""
        return {p: owner for p in partitions if (owner := self._partitions[p].owner) is not None}

    def epochs(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """See `Journal.epochs`."""
        return {p: epoch for p in partitions if (epoch := self._partitions[p].epoch)}

    def append(self, append: Append) -> None:
        """See `Journal.append`. Raises `FencedError`, `ConflictError`."""
        partition = self._partitions[append.partition]
        if partition.epoch != append.epoch:
            raise FencedError(partition.epoch)
        actor = self._actor(append.partition, append.actor_id) or _Actor()
        if len(actor.events) != append.expected_version:
            raise ConflictError(f"the journal is at version {len(actor.events)}")
        for name, amount in append.sums.items():
            self.sums[append.hour, name] += amount
        if append.opening is not None and actor.events:
            actor.events[0] = append.opening
        actor.events.extend(append.events)
        now_ms = self._now_ms()
        for kept in append.kept:
            self._kept[append.actor_id, kept.name] = kept.value, now_ms + kept.keep_ms
        if append.snapshot is not None:
            actor.snapshot, actor.snapshot_version = append.snapshot, len(actor.events)
        if append.due_ms is None:
            partition.due.pop(append.actor_id, None)
        else:
            partition.due[append.actor_id] = append.due_ms
        actor.expires_at_ms = None if append.keep_ms is None else now_ms + append.keep_ms
        if actor.events or actor.snapshot is not None:
            partition.actors[append.actor_id] = actor
        self._wrote(append)

    def load(self, partition: int, actor_id: str) -> Stored:
        """See `Journal.load`."""
        actor = self._actor(partition, actor_id) or _Actor()
        return Stored(actor.snapshot, actor.snapshot_version, actor.events[actor.snapshot_version :])

    def recall(self, actor_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """See `Journal.recall`."""
        found = {name: self._kept[actor_id, name] for name in names if (actor_id, name) in self._kept}
        return {name: value for name, (value, until_ms) in found.items() if until_ms > self._now_ms()}

    def history(self, partition: int, actor_id: str, after: int, count: int) -> Sequence[bytes]:
        """See `Journal.history`."""
        actor = self._actor(partition, actor_id) or _Actor()
        low, high = 0, len(actor.events)
        while low < high:
            middle = (low + high) // 2
            if json.loads(actor.events[middle]).get("seq", 0) > after:
                high = middle
            else:
                low = middle + 1
        return actor.events[low : low + count]

    def search(self, partition: int, actor_id: str, text: str, count: int) -> Sequence[bytes]:
        """See `Journal.search`."""
        actor = self._actor(partition, actor_id) or _Actor()
        return [event for event in reversed(actor.events) if text.encode() in event][:count]

    def due(self, partitions: Sequence[int], before_ms: int) -> Sequence[Due]:
        """See `Journal.due`."""
        return [
            due
            for partition in partitions
            if self._partitions[partition].due
            for due in sorted(Due(at_ms, actor_id) for actor_id, at_ms in self._partitions[partition].due.items())
            if due.due_ms <= before_ms
        ]

    def forget_due(self, partition: int, epoch: int, actor_id: str) -> None:
        """See `Journal.forget_due`. Raises `FencedError`."""
        held = self._partitions[partition]
        if held.epoch != epoch:
            raise FencedError(held.epoch)
        if self._actor(partition, actor_id) is None:
            held.due.pop(actor_id, None)

    def expires_in_ms(self, partition: int, actor_id: str) -> int | None:
        """Return how long an actor is still kept, in ms; None: for good.

        Raises `LookupError` for an actor that does not exist.
        """
        actor = self._actor(partition, actor_id)
        if actor is None:
            raise LookupError(actor_id)
        return None if actor.expires_at_ms is None else actor.expires_at_ms - self._now_ms()

    def actors(self) -> Sequence[tuple[int, str]]:
        """Return all actors that there are, by partition and id."""
        found = [(partition, actor_id) for partition, held in self._partitions.items() for actor_id in held.actors]
        return [(partition, actor_id) for partition, actor_id in found if self._actor(partition, actor_id) is not None]

    def look(self, partition: int, actor_id: str) -> tuple[Stored, Sequence[bytes], bool] | None:
        """Return an actor's snapshot, all its events, and whether it is ever due; None for one that is gone."""
        actor = self._actor(partition, actor_id)
        if actor is None:
            return None
        due = actor_id in self._partitions[partition].due
        return Stored(actor.snapshot, actor.snapshot_version, ()), tuple(actor.events), due

    def remove(self, partition: int, actor_id: str, length: int) -> bool:
        """See `RedisArchive.remove`."""
        actor = self._actor(partition, actor_id)
        if actor is None or len(actor.events) != length:
            return False
        del self._partitions[partition].actors[actor_id]
        self._partitions[partition].due.pop(actor_id, None)
        self._removed(actor_id, length)
        return True

    def delete(self, partition: int, actor_id: str) -> None:
        """Drop an actor's keys, as their expiry does."""
        self._partitions[partition].actors.pop(actor_id, None)

    def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        """See `Bindings.bind`."""
        if self._owner(payment_hash) is not None:
            return False
        self._bound[payment_hash] = actor_id, self._now_ms() + keep_ms
        return True

    def claim_payout(self, payment_hash: str, actor_id: str) -> str:
        """See `PayoutOwners.claim`."""
        return self._payouts.setdefault(payment_hash, actor_id)

    def owners_of_payouts(self, payment_hashes: Sequence[str]) -> Mapping[str, str]:
        """See `PayoutOwners.owners_of`."""
        return {each: self._payouts[each] for each in payment_hashes if each in self._payouts}

    def owners_of_paid(self, payment_hashes: Sequence[str]) -> Mapping[str, str | None]:
        """See `Bindings.owners_of_paid`."""
        found: dict[str, str | None] = {}
        for payment_hash in payment_hashes:
            owner = self._owner(payment_hash)
            if owner != _NOBODY:
                found[payment_hash] = owner
            self._bound[payment_hash] = owner or _NOBODY, None
        return found

    def _owner(self, payment_hash: str) -> str | None:
        owner, until_ms = self._bound.get(payment_hash, (None, None))
        return None if until_ms is not None and until_ms <= self._now_ms() else owner

    def _actor(self, partition: int, actor_id: str) -> _Actor | None:
        actors = self._partitions[partition].actors
        actor = actors.get(actor_id)
        if actor is not None and actor.expires_at_ms is not None and actor.expires_at_ms <= self._now_ms():
            del actors[actor_id]
            return None
        return actor

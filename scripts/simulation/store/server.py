"""Way to the store, with all that can go wrong on it. The store itself is in `data.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from ....actors.ports import Append, Due, Stored, TransientError
from ..loop import Process, present
from ..world import Fault, World, fail
from .data import StoreData

T = TypeVar("T")
_PATIENCE_S: Final = 2.0
"""Seconds that a client waits for an answer."""
_PAYOUT: Final = b'"payout_started"'


class Writes(Enum):
    """Kinds of writes of an operation. Where more can go wrong, more does."""

    NOTHING = 0.005
    KEYS = 0.03
    EVENTS = 0.04
    SNAPSHOT = 0.12
    PAYOUT = 0.1

    @property
    def loss(self) -> float:
        """Probability that the operation, or the report that it was carried out, gets lost."""
        return self.value


class Access(Protocol):
    """A way to the store."""

    @property
    def data(self) -> StoreData:
        """Data in the store."""
        ...

    async def ask(self, operation: Callable[[], T], *, writes: Writes = Writes.NOTHING, actor_id: str = "") -> T:
        """Return the operation's result. Raises what it raises; `TransientError` when it may have been lost.

        `actor_id`: the actor whose journal it writes to.
        """
        ...


class StoreAccess:
    """Way to the store for operations. While the store is away, they wait for it to come back, or get lost."""

    def __init__(self, world: World, data: StoreData) -> None:
        self.world = world
        self.data = data
        self._away = False
        self._waiting: list[Callable[[], None]] = []
        self._late: dict[str, list[Callable[[], None]]] = {}
        """Late writes by actor: they arrive just ahead of its next write."""

    def leave(self) -> None:
        """Stop the store, as SIGSTOP does."""
        self._away = True

    def come_back(self) -> None:
        """Let the store run again.

        It carries out most of what has been sent to it, in any order, too late for the senders.
        """
        self._away = False
        waiting, self._waiting = self._waiting, []
        self.world.chance.shuffle(waiting)
        for arrive in waiting:
            if self.world.chance.happens(0.8):
                arrive()

    async def ask(self, operation: Callable[[], T], *, writes: Writes = Writes.NOTHING, actor_id: str = "") -> T:
        """Return the operation's result (see `Access`)."""
        world, chance = self.world, self.world.chance
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        delay_s = chance.uniform(0.0001, 0.002)
        if world.strikes(Fault.STORE_SLOW, 0.02):
            delay_s += chance.uniform(0.01, 1.5)
        answered = True
        if writes is not Writes.NOTHING and world.strikes(Fault.STORE_LATE, 0.01):
            delay_s += _PATIENCE_S + chance.uniform(0, 6)
            self._lose(answer, _PATIENCE_S)
        elif world.strikes(Fault.STORE_LOSS, writes.loss):
            answered = False
            self._lose(answer, chance.choice([0.001, _PATIENCE_S]))
            if chance.happens(0.3):
                return await answer
        carry_out = partial(self._carry_out, operation, answer, answered, present(), writes)
        if actor_id and answered and world.strikes(Fault.STORE_LATE, 0.02):
            self._late.setdefault(actor_id, []).append(carry_out)
            self._lose(answer, _PATIENCE_S)
        else:
            world.later(delay_s, self._arrive, carry_out, answer, actor_id)
        return await answer

    def _arrive(self, carry_out: Callable[[], None], answer: asyncio.Future[Any], actor_id: str) -> None:
        for earlier in self._late.pop(actor_id, ()):
            earlier()
        if self._away:
            self._waiting.append(carry_out)
            self._lose(answer, _PATIENCE_S)
        else:
            carry_out()

    def _carry_out(
        self,
        operation: Callable[[], T],
        answer: asyncio.Future[T],
        answered: bool,
        asker: Process | None,
        writes: Writes,
    ) -> None:
        try:
            result = operation()
        except Exception as error:
            tell: Callable[[], None] = partial(fail, answer, error)
        else:
            tell = partial(_succeed, answer, result)
            payout = writes is Writes.PAYOUT
            self.world.stall(asker, 0.2 if payout else 0.001, minutes=payout)
        if answered:
            self.world.later(self.world.chance.uniform(0.0001, 0.001), tell)

    def _lose(self, answer: asyncio.Future[Any], after_s: float) -> None:
        self.world.later(after_s, fail, answer, TransientError("the store did not answer"))


def _succeed(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


class SimulatedJournal:
    """`Journal` in the simulated store."""

    def __init__(self, access: Access) -> None:
        self._ask = access.ask
        self._data = access.data

    async def claim(self, partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
        """Raise the epochs, and return them (see `Journal`). Raises `TransientError`."""
        return await self._ask(partial(self._data.claim, list(partitions), host_id), writes=Writes.KEYS)

    async def owners(self, partitions: Sequence[int]) -> Mapping[int, str]:
        """Return the hosts that claimed these partitions last. Raises `TransientError`."""
        return await self._ask(partial(self._data.owners, partitions))

    async def epochs(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Return the partitions' epochs. Raises `TransientError`."""
        return await self._ask(partial(self._data.epochs, partitions))

    async def append(self, append: Append) -> None:
        """Write all of it or nothing (see `Journal`)."""
        writes = Writes.EVENTS if append.snapshot is None else Writes.SNAPSHOT
        if any(_PAYOUT in event for event in append.events):
            writes = Writes.PAYOUT
        await self._ask(partial(self._data.append, append), writes=writes, actor_id=append.actor_id)

    async def load(self, partition: int, actor_id: str) -> Stored:
        """Return what is stored of an actor. Raises `TransientError`."""
        return await self._ask(partial(self._data.load, partition, actor_id))

    async def recall(self, partition: int, actor_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return the answers that are kept. Raises `TransientError`."""
        return await self._ask(partial(self._data.recall, actor_id, names))

    async def history(self, partition: int, actor_id: str, after: int, count: int) -> Sequence[bytes]:
        """Return events from the first whose `seq` is above `after`. Raises `TransientError`."""
        return await self._ask(partial(self._data.history, partition, actor_id, after, count))

    async def search(self, partition: int, actor_id: str, text: str, count: int) -> Sequence[bytes]:
        """Return the newest events that hold this text. Raises `TransientError`."""
        return await self._ask(partial(self._data.search, partition, actor_id, text, count))

    async def due(self, partitions: Sequence[int], before_ms: int) -> Sequence[Due]:
        """Return all that is due before a time. Raises `TransientError`."""
        return await self._ask(partial(self._data.due, list(partitions), before_ms))

    async def forget_due(self, partition: int, epoch: int, actor_id: str) -> None:
        """Drop a due time without an actor. Raises `FencedError`, `TransientError`."""
        await self._ask(partial(self._data.forget_due, partition, epoch, actor_id), writes=Writes.KEYS)

    async def check(self) -> None:
        """Raise `TransientError` when the store can't be reached."""
        await self._ask(lambda: None)

    async def close(self) -> None:
        """Do nothing: no connection has to be closed."""


class SimulatedBindings:
    """`Bindings` in the simulated store."""

    def __init__(self, access: StoreAccess) -> None:
        self._ask = access.ask
        self._data = access.data

    async def bind(self, payment_hash: str, actor_id: str, keep_ms: int) -> bool:
        """Bind an invoice to this actor (see `Bindings`). Raises `TransientError`."""
        return await self._ask(partial(self._data.bind, payment_hash, actor_id, keep_ms), writes=Writes.KEYS)

    async def owners_of_paid(self, payment_hashes: Sequence[str]) -> Mapping[str, str | None]:
        """Return the owners of these paid invoices (see `Bindings`). Raises `TransientError`."""
        return await self._ask(partial(self._data.owners_of_paid, list(payment_hashes)), writes=Writes.KEYS)


class SimulatedPayoutOwners:
    """`PayoutOwners` in the simulated store."""

    def __init__(self, access: StoreAccess) -> None:
        self._ask = access.ask
        self._data = access.data

    async def claim(self, payment_hash: str, actor_id: str) -> str:
        """Claim a payment hash (see `PayoutOwners`). Raises `TransientError`."""
        return await self._ask(partial(self._data.claim_payout, payment_hash, actor_id), writes=Writes.KEYS)

    async def owners_of(self, payment_hashes: Sequence[str]) -> Mapping[str, str]:
        """Return the owners of these payment hashes (see `PayoutOwners`). Raises `TransientError`."""
        return await self._ask(partial(self._data.owners_of_payouts, list(payment_hashes)))


class SimulatedLimits:
    """`Limits` for clients that keep within all of them; a release still goes to the store."""

    def __init__(self, access: StoreAccess) -> None:
        self._ask = access.ask

    async def hit(self, name: str, client: str, limit: int, window_s: int) -> int | None:
        """Return None: the client is within its limit."""
        return None

    async def reserve(self, client: str, invoice_of: str, limit: int, until_ms: int) -> int | None:
        """Return None: the client is within its limit."""
        return None

    async def hold_bytes(self, actor_id: str, kept: Sequence[tuple[int, int]], bounds: Mapping[str, int]) -> str | None:
        """Return None: the client is within its bounds."""
        return None

    async def release(self, client: str, invoice_of: str) -> None:
        """Release the reservation of a paid invoice. Raises `TransientError`."""
        await self._ask(lambda: None, writes=Writes.KEYS)

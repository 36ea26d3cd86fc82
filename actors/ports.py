"""What the actors need from outside, as protocols: the store, the Lightning node, the model, the price source.

Adapters implement them in `actors/adapters`. An adapter turns its library's errors into the two kinds below at its
own edge, so that nothing behind a port knows the library: `TransientError` may succeed when repeated,
`PermanentError` will not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from .domain.invoices import Invoice, Settlement
from .domain.pricing import Size, Usage


class PortError(Exception):
    """Something outside failed. The text is for the operator's log, never for a client."""


class TransientError(PortError):
    """Overloaded, unreachable, slow or answering rubbish: the same call may succeed later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(PortError):
    """Refused for a reason that repeating the call does not change."""


class FencedError(PortError):
    """Another host owns the partition now: what this host holds of it is void."""


class ConflictError(PortError):
    """The journal is not at the version that the writer expected: what it holds of this actor is void."""


class InvoiceOrder(msgspec.Struct, frozen=True):
    """An invoice to be made: whole sats, its text, its life, and the actor it belongs to."""

    amount_sats: int
    memo: str
    expiry_s: int
    actor_id: str


class Lightning(Protocol):
    """The Lightning node. Only `lookup` and `settlements`, which authenticate the node, may credit anything."""

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Makes an invoice. Raises `TransientError` or `PermanentError`; it may exist all the same, unseen."""
        ...

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """The settled incoming payment with this hash, None while it is unpaid or unknown to the node."""
        ...

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """Settled incoming payments of ours among the node's newest `limit` payments after `offset`."""
        ...

    def hints(self) -> AsyncIterator[str]:
        """Payment hashes that something claims were paid. Forgeable and lossy: a reason to ask, nothing more.

        Ends or raises `TransientError` when the connection breaks; the caller connects anew and then sweeps.
        """
        ...

    async def check(self) -> None:
        """Raises `PortError` when the node can't be reached or does not accept our key."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class Verdict(msgspec.Struct, frozen=True):
    """What the evaluation decided: whether we do the work, why (a sentence for the client), and its size."""

    accepted: bool
    reason: str
    size: Size


class Evaluation(msgspec.Struct, frozen=True):
    """A verdict and what finding it used."""

    verdict: Verdict
    model: str
    usage: Usage


class Completion(msgspec.Struct, frozen=True):
    """A model's whole answer and what it used. `usage` is None when the provider's figures were unreadable."""

    text: str
    model: str
    usage: Usage | None
    stop_reason: str


class Model(Protocol):
    """The model provider. One call is one attempt: retries belong to the caller, and to nobody else."""

    async def evaluate(self, request: str) -> Evaluation:
        """Judges a request. An unreadable verdict raises `TransientError`: it is never an acceptance."""
        ...

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Does the work. Raises `TransientError` (overloaded, broken connection) or `PermanentError`."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class PriceSource(Protocol):
    """Where the BTC price comes from."""

    async def fetch(self) -> Decimal:
        """The price of one bitcoin in USD, as the source says it. Raises `PortError`."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class Append(msgspec.Struct, frozen=True):
    """One atomic write: events behind `expected_version`, and with them the snapshot and the due time.

    `due_ms` None takes the actor out of its partition's due set. `keep_ms` lets the actor's keys expire by
    themselves after that many milliseconds; None keeps them for good.
    """

    partition: int
    epoch: int
    actor_id: str
    expected_version: int
    events: Sequence[bytes]
    snapshot: bytes | None = None
    due_ms: int | None = None
    keep_ms: int | None = None


class Stored(msgspec.Struct, frozen=True):
    """What the store holds of an actor: a snapshot with its version, and the events after it."""

    snapshot: bytes | None
    snapshot_version: int
    events: Sequence[bytes]


class Due(msgspec.Struct, frozen=True, order=True):
    """An actor that wants to be woken at a time (milliseconds since the epoch)."""

    due_ms: int
    actor_id: str


class Journal(Protocol):
    """The store of journals, snapshots and due times, by partition. See `adapters/redis_journal.py`."""

    async def claim(self, partition: int) -> int:
        """Takes a partition over: raises its epoch and returns it. Every former owner's write is refused from now."""
        ...

    async def append(self, append: Append) -> None:
        """Writes all of it or nothing. Raises `FencedError` or `ConflictError` when nothing was written;
        `TransientError` when that is unknown: the caller must load again before it goes on."""
        ...

    async def load(self, partition: int, actor_id: str) -> Stored:
        """What is stored of an actor; nothing at all for one that does not exist."""
        ...

    async def due(self, partition: int, before_ms: int, limit: int) -> Sequence[Due]:
        """The partition's actors that are due before a time, the earliest first."""
        ...

    async def check(self) -> None:
        """Raises `TransientError` when the store can't be reached or does not write."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class Limits(Protocol):
    """Counters shared by all processes that keep strangers' demand in bounds."""

    async def hit(self, name: str, client: str, limit: int, window_s: int) -> int | None:
        """Counts one use. None when it fits; else the seconds until the next use fits (it was not counted)."""
        ...

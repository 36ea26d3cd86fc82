"""What the actors need from outside, as protocols: the store, the Lightning node, the model, the price source.

Adapters implement them in `actors/adapters`. An adapter turns its library's errors into the two kinds below at its
own edge, so that nothing behind a port knows the library: `TransientError` may succeed when repeated,
`PermanentError` will not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from .domain.llm.answers import Completion, Evaluation, StreamPart, Verdict
from .domain.llm.relays import RelayEnd, RelayPart
from .domain.webhooks import Notify
from .lightning_ports import Bindings, InvoiceOrder, Lightning, Urgency
from .port_errors import (
    ConflictError,
    FencedError,
    HeldBackError,
    ModelError,
    PermanentError,
    PortError,
    RefusedRequestError,
    SilentError,
    ToldError,
    TransientError,
)

__all__ = [  # re-exported beside the ports that speak of them
    "Bindings",
    "Completion",
    "ConflictError",
    "Evaluation",
    "FencedError",
    "HeldBackError",
    "InvoiceOrder",
    "Lightning",
    "ModelError",
    "PermanentError",
    "PortError",
    "RefusedRequestError",
    "SilentError",
    "ToldError",
    "TransientError",
    "Urgency",
    "Verdict",
]


class Model(Protocol):
    """The model provider. One call is one attempt: retries belong to the caller, and to nobody else.

    A `TransientError` is a `ModelError` where the provider, the network or our account there is to blame.
    """

    def prepare(self) -> object:
        """Gets ready for the first call, in the background. Raises nothing; calls may come before it is."""
        ...

    async def evaluate(self, request: str) -> Evaluation:
        """Judges a request. An unreadable verdict raises `TransientError`: it is never an acceptance."""
        ...

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Does the work. Raises `TransientError` (overloaded, broken connection), `SilentError` or `PermanentError`."""
        ...

    def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Does the work piece by piece; closing the generator ends the provider's work. Raises as `complete` does.

        What was counted and given before it raised or was closed has been used, and is billed to us.
        """
        ...

    def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool
    ) -> AsyncGenerator[RelayPart, None]:
        """Passes a call on as it is. What the provider refuses about it is an end, too; raises and ends as `stream`.

        `model` is the one that the body names. Nothing was used as long as nothing came; `ToldError` is a
        `TransientError` that the client has seen.
        """
        ...

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Has the provider count a prompt, which costs nothing. Raises `TransientError`, `PermanentError`."""
        ...

    async def prompt_tokens(self, request: str, *, model: str | None = None, max_tokens: int = 0) -> int:
        """Has the provider count the prompt of `complete`, or without a model that of `evaluate`. Raises likewise."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class ModelProbe(Protocol):
    """A question to the model provider that costs nothing."""

    async def ask(self) -> bool:
        """Whether it is answered as it should be; False when something else is. Raises `ModelError`."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class Webhooks(Protocol):
    """What tells clients' addresses about their sessions and jobs."""

    async def send(self, notify: Notify) -> bool:
        """One attempt; True when the receiver has it, False when it wants no more. Raises `TransientError`."""
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


class Kept(msgspec.Struct, frozen=True):
    """An answer that is kept under an actor's name for it, for `keep_ms`."""

    name: str
    value: bytes
    keep_ms: int


class Append(msgspec.Struct, frozen=True):
    """One atomic write: events behind `expected_version`, and with them the snapshot and the due time.

    `due_ms` None takes the actor out of its partition's due set. `keep_ms` lets the actor's keys expire by
    themselves after that many milliseconds; None keeps them for good. `kept` are answers to be kept with the events.
    `liability_change_msat` is what the events add to what the wallet must hold, in the partition's running total.
    """

    partition: int
    epoch: int
    actor_id: str
    expected_version: int
    events: Sequence[bytes]
    snapshot: bytes | None = None
    due_ms: int | None = None
    keep_ms: int | None = None
    kept: Sequence[Kept] = ()
    liability_change_msat: int = 0


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

    async def claim(self, partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
        """Makes a host the partitions' owner: raises their epochs and returns them.

        Former owners' writes are refused from now. Raises `TransientError`; some may have been taken all the same.
        """
        ...

    async def owners(self, partitions: Sequence[int]) -> Mapping[int, str]:
        """The hosts that claimed these partitions last; one that nobody ever claimed is left out."""
        ...

    async def epochs(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The partitions' epochs as they are stored; one that nobody ever claimed is left out."""
        ...

    async def append(self, append: Append) -> None:
        """Writes all of it or nothing.

        Raises `FencedError` or `ConflictError` when nothing was written; `TransientError` when that is unknown: the
        caller must load again before it goes on.
        """
        ...

    async def load(self, partition: int, actor_id: str) -> Stored:
        """What is stored of an actor; nothing at all for one that does not exist."""
        ...

    async def recall(self, partition: int, actor_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """The answers that are kept under these names. Raises `TransientError`."""
        ...

    async def history(self, partition: int, actor_id: str, after: int, count: int) -> Sequence[bytes]:
        """At most `count` events, beginning with the first whose `seq` is above `after`. Raises `TransientError`."""
        ...

    async def search(self, partition: int, actor_id: str, text: str, count: int) -> Sequence[bytes]:
        """The newest `count` events in which a text stands, the newest first. Raises `TransientError`.

        It looks through the journal from its end, in the store, a bounded stretch at a time.
        """
        ...

    async def due(self, partitions: Sequence[int], before_ms: int) -> Sequence[Due]:
        """All actors of these partitions that are due before a time."""
        ...

    async def forget_due(self, partition: int, epoch: int, actor_id: str) -> None:
        """Drops the due time of an actor that no longer exists. Raises `FencedError`."""
        ...

    async def check(self) -> None:
        """Raises `TransientError` when the store can't be reached or does not write."""
        ...

    async def close(self) -> None:
        """Ends connections."""
        ...


class Limits(Protocol):
    """Counters shared by all processes that keep strangers' demand in bounds. All raise `TransientError`."""

    async def hit(self, name: str, client: str, limit: int, window_s: int) -> int | None:
        """Counts one use in a sliding window. None when it fits; else the seconds until the next one fits."""
        ...

    async def reserve(self, client: str, invoice_of: str, limit: int, until_ms: int) -> int | None:
        """Counts an unpaid invoice until it expires. None when it fits; else the seconds until the next one fits.

        Reserving again for the same actor (`invoice_of`) counts once.
        """
        ...

    async def release(self, client: str, invoice_of: str) -> None:
        """The invoice was paid: it no longer counts."""
        ...

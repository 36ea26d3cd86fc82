"""Ports of the actors, as protocols: the store, the Lightning node, the model, the price source.

Adapters implement them in `actors/adapters`. An adapter turns its library's errors into the two kinds below at its own
edge, so that nothing behind a port knows the library: `TransientError` may succeed when repeated, `PermanentError` will
not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

import msgspec

from .domain.llm.answers import Completion, Evaluation, StreamPart, Verdict
from .domain.llm.relays import Give, RelayEnd, RelayPart
from .domain.webhooks import Notify
from .lightning_ports import (
    Bindings,
    Destinations,
    InvoiceKey,
    InvoiceOrder,
    Lightning,
    PayoutOwners,
    Urgency,
    WalletWords,
)
from .port_errors import (
    ConflictError,
    DestinationError,
    FencedError,
    HeldBackError,
    MissingModelError,
    ModelError,
    NotCountedError,
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
    "DestinationError",
    "Destinations",
    "Evaluation",
    "FencedError",
    "HeldBackError",
    "InvoiceKey",
    "InvoiceOrder",
    "Lightning",
    "MissingModelError",
    "ModelError",
    "NotCountedError",
    "PayoutOwners",
    "PermanentError",
    "PortError",
    "RefusedRequestError",
    "SilentError",
    "ToldError",
    "TransientError",
    "Urgency",
    "Verdict",
    "WalletWords",
]


class Model(Protocol):
    """Port of the model provider. One call is one attempt: retries belong to the caller alone.

    A `TransientError` is a `ModelError` where the provider, the network or our account there is to blame.
    """

    def prepare(self) -> object:
        """Get ready for the first call, in the background. Raises nothing; calls may come before it is ready."""
        ...

    async def evaluate(self, request: str) -> Evaluation:
        """Judge a request. An unreadable verdict raises `TransientError`: it is never an acceptance."""
        ...

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Do the work. Raises `TransientError` (overloaded, broken connection), `SilentError` or `PermanentError`."""
        ...

    def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Do the work piece by piece; closing the generator ends the provider's work. Raises as `complete` does.

        Tokens that were counted and text that was given before it raised or was closed have been used, and are billed
        to us.
        """
        ...

    def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """Pass a call on as it is. A provider's refusal of the call is an end, too; raises and ends as `stream`.

        `model` is the one that the body names. Nothing was used as long as nothing came; `ToldError` is a
        `TransientError` that the client has seen. Bytes and counts of a stream may go to `give` as they come, after
        its beginning and before its end, instead of being among the parts; what that raises is raised here.
        """
        ...

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool) -> RelayEnd:
        """Have the provider count a prompt, which costs nothing. Raises `TransientError`, `PermanentError`.

        `model` is the catalogue's; the body holds the upstream's name of it.
        """
        ...

    async def prompt_tokens(self, request: str, *, model: str | None = None, max_tokens: int = 0) -> int:
        """Have the provider count the prompt of `complete`, or without a model that of `evaluate`. Raises likewise."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class Provider(Protocol):
    """Port of one upstream: a server that answers model calls in its API. See docs/decisions/upstreams.md.

    `model` is the model's name there. One call is one attempt, and raises as `Model` says. A `ModelError` tells whether
    the call was sent: another upstream may be asked after `UNREACHABLE`, or a status that refuses the operator.
    """

    def prepare(self) -> object:
        """Get ready for the first call, in the background. Raises nothing."""
        ...

    async def evaluate(self, request: str, *, model: str) -> Evaluation:
        """Judge a request, as `Model.evaluate`."""
        ...

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """Do the work, as `Model.complete`."""
        ...

    def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """Do the work piece by piece, as `Model.stream`."""
        ...

    def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """Send a body in the upstream's API, and give its bytes as they come, as `Model.relay`."""
        ...

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, beta: bool) -> RelayEnd:
        """Have the prompt of a body counted, in the upstream's API.

        The answer's body is `{"input_tokens": n}`. Raises `TransientError`, and `NotCountedError` where the upstream
        does not count.
        """
        ...

    async def prompt_tokens(self, request: str, *, model: str, max_tokens: int | None) -> int:
        """Have the prompt of `stream` counted, or without `max_tokens` that of `evaluate`. Raises as `count_tokens`."""
        ...

    async def models(self) -> Sequence[str] | None:
        """Return the names of the models that the upstream lists; None where it has no list. Raises `PortError`."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class ModelProbe(Protocol):
    """Port for a question to the model provider that costs nothing."""

    async def ask(self) -> bool:
        """Return whether the answer is as expected; False for any other answer. Raises `ModelError`."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class Webhooks(Protocol):
    """Port that notifies clients' addresses about their sessions and jobs."""

    async def send(self, notify: Notify) -> bool:
        """Make one attempt; return True when the receiver has it, False when it wants no more.

        Raises `TransientError`.
        """
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class PriceSource(Protocol):
    """Port of the source of the BTC price."""

    async def fetch(self) -> Decimal:
        """Return the price of one bitcoin in USD, as the source says it. Raises `PortError`."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class Kept(msgspec.Struct, frozen=True):
    """Answer that is kept under a name of an actor's, for `keep_ms`."""

    name: str
    value: bytes
    keep_ms: int


class Append(msgspec.Struct, frozen=True):
    """One atomic write: events behind `expected_version`, and with them the snapshot and the due time.

    `due_ms` None takes the actor out of its partition's due set. `keep_ms` lets the actor's keys expire by themselves
    after that many milliseconds; None keeps them for good. `kept` are answers to be kept with the events.
    `opening` takes the place of the journal's first event, of which something need not be kept any more.
    `liability_change_msat` is the amount that the events add, in the partition's running total, to the sum that the
    wallet must hold. `sums` are added to those of `hour`, counted from 1970 (see `domain/sums.py`).
    `open_payout_ms` puts the actor among those whose last payout is unpaid, since that time; 0 takes it out of them,
    and None leaves it as it is.
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
    opening: bytes | None = None
    hour: int = 0
    sums: Mapping[str, int] = {}
    open_payout_ms: int | None = None


class Stored(msgspec.Struct, frozen=True):
    """Stored state of an actor: a snapshot with its version, and the events after it."""

    snapshot: bytes | None
    snapshot_version: int
    events: Sequence[bytes]


class Due(msgspec.Struct, frozen=True, order=True):
    """Actor that wants to be woken at a time (milliseconds since the epoch)."""

    due_ms: int
    actor_id: str


class Journal(Protocol):
    """Store of journals, snapshots and due times, by partition. See `adapters/redis/journal.py`."""

    async def claim(self, partitions: Sequence[int], host_id: str) -> Mapping[int, int]:
        """Make a host the partitions' owner: raise their epochs and return them.

        Former owners' writes are refused from now. Raises `TransientError`; some may have been taken all the same.
        """
        ...

    async def owners(self, partitions: Sequence[int]) -> Mapping[int, str]:
        """Return the hosts that claimed these partitions last; a partition that was never claimed is left out."""
        ...

    async def epochs(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Return the partitions' epochs as they are stored; a partition that was never claimed is left out."""
        ...

    async def append(self, append: Append) -> None:
        """Write all of it or nothing.

        Raises `FencedError` or `ConflictError` when nothing was written; `TransientError` when that is unknown: the
        caller must load again before it goes on.
        """
        ...

    async def load(self, partition: int, actor_id: str) -> Stored:
        """Return the stored state of an actor, which is empty for an actor that does not exist."""
        ...

    async def recall(self, partition: int, actor_id: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return the answers that are kept under these names. Raises `TransientError`."""
        ...

    async def history(self, partition: int, actor_id: str, after: int, count: int) -> Sequence[bytes]:
        """Return at most `count` events, beginning with the first whose `seq` is above `after`.

        Raises `TransientError`.
        """
        ...

    async def search(self, partition: int, actor_id: str, text: str, count: int) -> Sequence[bytes]:
        """Return the newest `count` events that contain a text, the newest first. Raises `TransientError`.

        The store searches the journal from its end, a bounded stretch at a time.
        """
        ...

    async def due(self, partitions: Sequence[int], before_ms: int) -> Sequence[Due]:
        """Return all actors of these partitions that are due before a time."""
        ...

    async def forget_due(self, partition: int, epoch: int, actor_id: str) -> None:
        """Drop the due time of an actor that no longer exists. Raises `FencedError`."""
        ...

    async def check(self) -> None:
        """Raise `TransientError` when the store can't be reached or does not write."""
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class Limits(Protocol):
    """Port of the counters, shared by all processes, that bound strangers' demand. All raise `TransientError`."""

    async def hit(self, name: str, client: str, limit: int, window_s: int) -> int | None:
        """Count one use in a sliding window. Return None when it fits; else the seconds until the next one fits."""
        ...

    async def reserve(self, client: str, invoice_of: str, limit: int, until_ms: int) -> int | None:
        """Count an unpaid invoice until it expires.

        Return None when it fits; else the seconds until the next one fits. Reserving again for the same actor
        (`invoice_of`) counts once.
        """
        ...

    async def hold_bytes(self, actor_id: str, kept: Sequence[tuple[int, int]], bounds: Mapping[str, int]) -> str | None:
        """Count what the store keeps of an unpaid actor, under each of these names, up to its bound.

        `kept`: bytes, and the time (milliseconds since the epoch) until which they are kept. Return None when it fits,
        and else a name whose bound it exceeds. The same actor is counted once.
        """
        ...

    async def release(self, client: str, invoice_of: str) -> None:
        """Stop counting an invoice, which was paid, and the bytes of its actor."""
        ...


class Standing(msgspec.Struct, frozen=True):
    """Standing of the wallet: the sum it must hold and the sum it holds, in msat, and whether that is enough."""

    solvent: bool
    liability_msat: int
    wallet_msat: int
    at_ms: int


class SolvencyBoard(Protocol):
    """Store's part in the solvency: the running totals, and the published standing. All raise `TransientError`."""

    async def liability(self) -> tuple[int, int]:
        """Return the sum that the wallet must hold in msat, and the number of partitions left out without a total."""
        ...

    async def tell(self, standing: Standing) -> None:
        """Publish the standing to all fronts; it is forgotten after some minutes."""
        ...

    async def told(self) -> Standing | None:
        """Return the last published standing."""
        ...


class LongPayout(msgspec.Struct, frozen=True):
    """Payout whose outcome the node has not told for long; `since_ms` is when it began."""

    actor_id: str
    payment_hash: str
    amount_msat: int
    since_ms: int


class Findings(msgspec.Struct, frozen=True):
    """Findings of the last look.

    unknown_payouts: payments that left the wallet in an actor's name and that no journal records as paid, of
    `compared_payouts` since `compared_since_ms`. key_trouble: the fault of the wallet's keys. store_losses: the loss
    that each server of the store may suffer, by its address. long_payouts: payouts that have been under way for longer
    than `LONG_MS`, the oldest of them since `long_payouts_since_ms`.
    """

    at_ms: int
    unknown_payouts: int = 0
    unknown_payouts_msat: int = 0
    compared_payouts: int = 0
    compared_since_ms: int | None = None
    key_trouble: str | None = None
    store_losses: Mapping[str, str] = {}
    long_payouts: int = 0
    long_payouts_msat: int = 0
    long_payouts_since_ms: int | None = None


class Refusals(msgspec.Struct, frozen=True):
    """Refusals of payouts that the node would not even try, ever, by reason, and the reason of this hour's last one."""

    counts: Mapping[str, int] = {}
    last: str | None = None


class FindingsBoard(Protocol):
    """Store's part in the findings. All raise `TransientError`."""

    async def tell(self, findings: Findings) -> None:
        """Publish the findings to all fronts; they are forgotten after some minutes."""
        ...

    async def told(self) -> tuple[Findings | None, Refusals]:
        """Return the last findings, and the refusals."""
        ...

    async def refused(self, reason: str) -> None:
        """Count a payout that the node would not even try."""
        ...

    async def lasts(self, payout: LongPayout) -> None:
        """Note that a payout is under way and has been for long; the note is forgotten after some minutes."""
        ...

    async def long_payouts(self) -> Sequence[LongPayout]:
        """Return the payouts that were noted in the last minutes."""
        ...


Sums = Mapping[tuple[int, str], int]
"""Sums by hour or day, counted from 1970 in UTC, and name (see `domain/sums.py`)."""


class SumsRead(NamedTuple):
    """Sums of hours or days, and those of all time, as they were at one moment.

    `from_hour`: the first hour that was counted from its beginning; None while some partition is not counted at all.
    """

    sums: Sums
    ever: Mapping[str, int]
    from_hour: int | None


class Listed(NamedTuple):
    """Actors of a kind: how many there are, and some of them with their partition and a time in ms."""

    total: int
    some: Sequence[tuple[int, str, int]]


class OperatorBoard(Protocol):
    """Store's part in the operator's figures. All raise `TransientError`."""

    async def hours(self, days: Sequence[int]) -> SumsRead:
        """Return the sums of each hour of these days."""
        ...

    async def days(self, days: Sequence[int]) -> SumsRead:
        """Return the sums of each of these days."""
        ...

    async def due(self, most: int) -> Listed:
        """Return the actors that are to be woken at some time, and some of them: about `most`."""
        ...

    async def open_payouts(self, most: int) -> Listed:
        """Return the actors whose last payout is unpaid, and some of them: about `most`."""
        ...

    async def count_answers(self, minute: int, counts: Mapping[str, int]) -> None:
        """Add counts of a front's answers to those of a minute; they are forgotten after some hours."""
        ...

    async def answers(self, minutes: Sequence[int]) -> Mapping[str, int]:
        """Return the counts of these minutes together, of all fronts."""
        ...

    async def end_sign_in(self, name: str, keep_ms: int) -> None:
        """Note that the operator signed out of this sign-in; the note is kept for so long."""
        ...

    async def is_sign_in_ended(self, name: str) -> bool:
        """Return whether the operator signed out of this sign-in."""
        ...

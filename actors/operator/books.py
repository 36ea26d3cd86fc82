"""Figures for the operator that are not the front's own: sums, states of actors, and payouts that are not paid."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..domain.behaviour import Behaviour, BooksError, UnknownEventError
from ..domain.money import MoneyError
from ..domain.payments.payouts import PayoutReport, PayoutTarget, Refunds
from ..model_health.outage import ModelBoard, ModelWord
from ..partitioning import PARTITIONS, partition_of
from ..placement.membership import ClusterView
from ..ports import OperatorBoard, Stored, SumsRead

_STATES_MOST: Final = 2_000
_PAYOUTS_MOST: Final = 200
_AT_ONCE: Final = 50
_UNREADABLE: Final = "unreadable"

Load = Callable[[int, str], Awaitable[Stored]]
Restore = Callable[[Behaviour[Any], str, Stored], Any]


class OpenPayout(NamedTuple):
    """Payout that is not paid: under way, or failed and not tried again. Amounts in msat.

    `sending`: the order's call has not ended. `refusal`: why the node never tried. `error`: why the last try of the
    destination failed. `final_ms`: when the node's "failed" is believed.
    """

    actor_id: str
    since_ms: int
    under_way: bool
    sending: bool
    amount_msat: int
    owed_msat: int
    final_ms: int
    refusal: str | None
    error: str | None


class OpenPayouts(NamedTuple):
    """Payouts that are not paid, the oldest first; `total` may be more than those that are listed."""

    total: int
    listed: Sequence[OpenPayout]


class Census(NamedTuple):
    """Actors that have something before them, by kind and state; of very many only some are `looked_at`."""

    total: int
    looked_at: int
    states: Mapping[tuple[str, str], int]


class Partitions(NamedTuple):
    """Partitions by the host that owns them; those without an owner belong to none yet."""

    by_host: Mapping[str, int]
    unowned: int
    view: ClusterView


@dataclass(frozen=True, slots=True)
class OperatorBooks:
    """Reader of the operator's figures. All methods raise `TransientError`."""

    board: OperatorBoard
    load: Load
    restore: Restore
    behaviours: Mapping[str, Behaviour[Any]]
    owners: Callable[[Sequence[int]], Awaitable[Mapping[int, str]]]
    view: Callable[[], Awaitable[ClusterView]]
    upstream_boards: Mapping[str, ModelBoard]
    look_up: Callable[[PayoutTarget, str], Awaitable[PayoutReport]]

    async def hours(self, days: Sequence[int]) -> SumsRead:
        """Return the sums of each hour of these days."""
        return await self.board.hours(days)

    async def days(self, days: Sequence[int]) -> SumsRead:
        """Return the sums of each of these days."""
        return await self.board.days(days)

    async def census(self) -> Census:
        """Count what has something before it: sessions and jobs that are not at their end, and unpaid payouts."""
        due = await self.board.due(_STATES_MOST)
        states: Counter[tuple[str, str]] = Counter()
        found = await self._states([(partition, actor_id) for partition, actor_id, _ in due.some])
        for (_, actor_id, _), state in zip(due.some, found, strict=True):
            if state is not None:
                states[actor_id.partition("_")[0], _state_of(state)] += 1
        return Census(due.total, len(due.some), states)

    async def payouts(self) -> OpenPayouts:
        """Return the payouts that were begun and are not paid."""
        listed = await self.board.open_payouts(_PAYOUTS_MOST)
        some = sorted(listed.some, key=lambda row: row[2])
        states = await self._states([(partition, actor_id) for partition, actor_id, _ in some])
        found = [
            _open_payout(actor_id, since_ms, state)
            for (_, actor_id, since_ms), state in zip(some, states, strict=True)
            if isinstance(getattr(state, "refunds", None), Refunds)
        ]
        return OpenPayouts(listed.total, found)

    async def look_again(self, actor_id: str) -> PayoutReport | None:
        """Ask the node about the payout of an actor that is under way; None if there is none. It sends nothing.

        Raises `PortError`. What becomes of the payout is decided by its actor, which looks it up by itself.
        """
        (state,) = await self._states([(partition_of(actor_id), actor_id)])
        refunds = getattr(state, "refunds", None)
        if not isinstance(refunds, Refunds) or refunds.under_way is None:
            return None
        return await self.look_up(refunds.under_way.target, actor_id)

    async def partitions(self) -> Partitions:
        """Return which hosts own how many partitions."""
        owners, view = await self.owners(range(PARTITIONS)), await self.view()
        return Partitions(Counter(owners.values()), PARTITIONS - len(owners), view)

    async def upstreams(self) -> Mapping[str, ModelWord]:
        """Return what is known of each upstream."""
        return {name: await board.read() for name, board in self.upstream_boards.items()}

    async def _states(self, actors: Sequence[tuple[int, str]]) -> list[Any]:
        """Return the states of these actors; None for those that are gone, or of another kind."""
        found: list[Any] = []
        for start in range(0, len(actors), _AT_ONCE):
            found += await asyncio.gather(*(self._state(*actor) for actor in actors[start : start + _AT_ONCE]))
        return found

    async def _state(self, partition: int, actor_id: str) -> Any:
        behaviour = self.behaviours.get(actor_id.partition("_")[0])
        if behaviour is None:
            return None
        stored = await self.load(partition, actor_id)
        try:
            return self.restore(behaviour, actor_id, stored)
        except (BooksError, MoneyError, UnknownEventError):
            return _UNREADABLE


def _state_of(state: Any) -> str:
    return str(getattr(getattr(state, "state", None), "value", _UNREADABLE))


def _open_payout(actor_id: str, since_ms: int, state: Any) -> OpenPayout:
    refunds, books = state.refunds, state.books
    payout, standing = refunds.under_way, refunds.standing
    refusal = refunds.last_refusal if payout is None else payout.refusal
    return OpenPayout(
        actor_id,
        since_ms if payout is None else payout.started_at_ms,
        payout is not None,
        payout is not None and payout.sending,
        0 if payout is None else payout.target.amount_msat.value,
        books.owed.value,
        0 if payout is None else payout.failure_final_at_ms,
        None if refusal is None else refusal.value,
        None if standing is None else standing.error,
    )

"""Findings of the treasury for the operator, told to the fronts by way of the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec

from ..ports import PortError

_ASK_AGAIN_S: Final = 1.0


class Findings(msgspec.Struct, frozen=True):
    """What the last look found.

    unknown_payouts: payments that left the wallet in an actor's name and that no journal tells as paid, of
    `compared_payouts` since `compared_since_ms`. key_trouble: what is wrong with the wallet's keys. store_losses: what
    each server of the store may lose, by its address.
    """

    at_ms: int
    unknown_payouts: int = 0
    unknown_payouts_msat: int = 0
    compared_payouts: int = 0
    compared_since_ms: int | None = None
    key_trouble: str | None = None
    store_losses: Mapping[str, str] = {}


class Refusals(msgspec.Struct, frozen=True):
    """Payouts that the node would not even try: how many ever, by reason, and why the last one of this hour."""

    counts: Mapping[str, int] = {}
    last: str | None = None


class FindingsBoard(Protocol):
    """The store's part. All raise `TransientError`."""

    async def tell(self, findings: Findings) -> None:
        """Tells them to all fronts; they are forgotten after some minutes."""
        ...

    async def told(self) -> tuple[Findings | None, Refusals]:
        """What was found last, and the refusals."""
        ...

    async def refused(self, reason: str) -> None:
        """Counts a payout that the node would not even try."""
        ...


class FindingsCache:
    """The findings in a front's memory, read at most once a second."""

    def __init__(
        self,
        told: Callable[[], Awaitable[tuple[Findings | None, Refusals]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = told
        self._clock = clock
        self._known: tuple[Findings | None, Refusals] = (None, Refusals())
        self._read_s: float | None = None

    async def current(self) -> tuple[Findings | None, Refusals]:
        """What is known; None for findings while nobody looks. Never raises."""
        now_s = self._clock()
        if self._read_s is None or now_s - self._read_s > _ASK_AGAIN_S:
            self._read_s = now_s
            try:
                self._known = await self._told()
            except PortError:
                self._known = (None, Refusals())
        return self._known


class NoFindings:
    """A front's knowledge where nobody looks."""

    async def current(self) -> tuple[Findings | None, Refusals]:
        """Nothing."""
        return None, Refusals()

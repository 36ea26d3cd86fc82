"""Findings of the treasury for the operator, passed to the fronts through the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import msgspec

from ..ports import PortError

_ASK_AGAIN_S: Final = 1.0


class Findings(msgspec.Struct, frozen=True):
    """Findings of the last look.

    unknown_payouts: payments that left the wallet in an actor's name and that no journal records as paid, of
    `compared_payouts` since `compared_since_ms`. key_trouble: the fault of the wallet's keys. store_losses: the loss
    that each server of the store may suffer, by its address.
    """

    at_ms: int
    unknown_payouts: int = 0
    unknown_payouts_msat: int = 0
    compared_payouts: int = 0
    compared_since_ms: int | None = None
    key_trouble: str | None = None
    store_losses: Mapping[str, str] = {}


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


class FindingsCache:
    """Cache of the findings in a front's memory, read at most once a second."""

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
        """Return the last known findings, None while no treasury looks, and the refusals. Never raises."""
        now_s = self._clock()
        if self._read_s is None or now_s - self._read_s > _ASK_AGAIN_S:
            self._read_s = now_s
            try:
                self._known = await self._told()
            except PortError:
                self._known = (None, Refusals())
        return self._known


class NoFindings:
    """Stand-in for the cache where no treasury looks."""

    async def current(self) -> tuple[Findings | None, Refusals]:
        """Return no findings and no refusals."""
        return None, Refusals()

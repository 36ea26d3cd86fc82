"""Solvency of the wallet towards its clients: watched by the treasury, published to the fronts through the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from ..domain.money import Msat
from ..ports import Lightning, PortError, SolvencyBoard, Standing

_LOOK_EVERY_S: Final = 10.0
# One look may fall between a payment and its entry in a journal, another one hardly between two such.
_SHORT_LOOKS: Final = 2
# Routing fees beyond their reserve are the operator's loss, which must not close the shop: 10 sats, or 0.1 %.
_TOLERANCE_LEAST_MSAT: Final = 10_000
_TOLERANCE_DIVISOR: Final = 1_000
_ASK_AGAIN_S: Final = 1.0
_log = structlog.get_logger(__name__)


def covers(wallet_msat: int, liability_msat: int) -> bool:
    """Return whether the wallet holds enough, but for a small tolerance."""
    tolerance_msat = max(_TOLERANCE_LEAST_MSAT, liability_msat // _TOLERANCE_DIVISOR)
    return wallet_msat + tolerance_msat >= liability_msat


class SolvencyWatch:
    """Watch that compares the wallet with the totals every some seconds, until it is cancelled.

    A payment in is in the wallet before a journal credits it, and a payout leaves the journal's liability before the
    wallet: both make the wallet look too rich for a moment, never too poor. Only between two readings can it look too
    poor; so the totals are read before and after the wallet, the lesser counts, and it must be short twice in a row.
    """

    def __init__(
        self,
        lightning: Lightning,
        board: SolvencyBoard,
        now_ms: Callable[[], int],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lightning = lightning
        self._board = board
        self._now_ms = now_ms
        self._pause = pause
        self._short_looks = 0
        self._solvent: bool | None = None
        self._logged = False

    async def run(self) -> None:
        """Watch until cancelled.

        While store or node do not answer, the last published standing counts until it is old.
        """
        missed = False
        while True:
            try:
                await self.look()
                missed = False
            except PortError as error:
                # Said once: a node that is away for a night would fill the log.
                if not missed:
                    _log.warning("wallet_not_compared", error=str(error))
                missed = True
            await self._pause(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once, and publish the standing. Raises `PortError`."""
        if self._solvent is None:
            # A treasury that was restarted must not open for a moment what another one has closed.
            told = await self._board.told()
            self._solvent = told is None or told.solvent
        before, _ = await self._board.liability()
        wallet: Msat = await self._lightning.balance()
        after, uncounted = await self._board.liability()
        # Without some partitions the sum is too small. A wallet that is short of it is short all the more.
        liability_msat = min(before, after)
        self._judge(wallet.value, liability_msat, uncounted)
        await self._board.tell(Standing(self._solvent, liability_msat, wallet.value, self._now_ms()))

    def _judge(self, wallet_msat: int, liability_msat: int, uncounted: int) -> None:
        figures = {"wallet_msat": wallet_msat, "liability_msat": liability_msat, "partitions_uncounted": uncounted}
        if covers(wallet_msat, liability_msat):
            if not self._solvent:
                _log.info("wallet_covers_clients_again", **figures)
            self._short_looks, self._solvent, self._logged = 0, True, False
            return
        self._short_looks += 1
        # This also logs a wallet that was short before this process began. An operator who restarts the server looks
        # here.
        if self._short_looks >= _SHORT_LOOKS and not self._logged:
            self._solvent, self._logged = False, True
            _log.error(
                "wallet_short",
                hint="no deposits are taken until it is filled, refunds go on; see `satmeter audit`",
                **figures,
                missing_msat=liability_msat - wallet_msat,
            )


class SolvencyCache:
    """Cache of the standing in a front's memory, read at most once a second.

    Without a standing, deposits are taken: a watcher that is down says nothing about the wallet, and a shop must not
    close with it. A short wallet is published every ten seconds, and a published standing holds for minutes.
    """

    def __init__(
        self, told: Callable[[], Awaitable[Standing | None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._told = told
        self._clock = clock
        self._known: Standing | None = None
        self._read_s: float | None = None

    async def current(self) -> Standing | None:
        """Return the last known standing, or None. Never raises."""
        now_s = self._clock()
        if self._read_s is None or now_s - self._read_s > _ASK_AGAIN_S:
            self._read_s = now_s
            try:
                self._known = await self._told()
            except PortError:
                self._known = None
        return self._known

"""Oversight over what a server can't see from one call: payments, keys, and what the store may lose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from ..domain.behaviour import BooksError, UnknownEventError
from ..domain.money import MoneyError
from ..domain.timestamps import timestamp
from ..ports import Findings, FindingsBoard, LongPayout, PortError
from .payout_watch import Comparison, PayoutWatch

_LOOK_EVERY_S: Final = 30.0
_log = structlog.get_logger(__name__)

CheckKeys = Callable[[], Awaitable[str | None]]
"""Asks the node for the fault of the keys, if any. Raises `PortError`."""
StoreLosses = Callable[[], Awaitable[Mapping[str, str]]]
"""Asks the store what it may lose. Raises `PortError`."""


class Oversight:
    """Watch that looks every half a minute, until it is cancelled, and publishes its findings.

    The finding of a part that does not answer stays as it was. `allowed` are losses of the store that the operator has
    allowed by name; they do not count as findings.
    """

    def __init__(
        self,
        payouts: PayoutWatch,
        check_keys: CheckKeys,
        store_losses: StoreLosses,
        board: FindingsBoard,
        now_ms: Callable[[], int],
        *,
        allowed: frozenset[str] = frozenset(),
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._payouts = payouts
        self._check_keys = check_keys
        self._store_losses = store_losses
        self._board = board
        self._now_ms = now_ms
        self._allowed = allowed
        self._pause = pause
        self._compared: Comparison | None = None
        self._key_trouble: str | None = None
        self._losses: Mapping[str, str] = {}
        self._long: Sequence[LongPayout] = ()
        self._missed: set[str] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except PortError as error:
                _log.warning("findings_not_told", error=str(error))
            await self._pause(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once, and publish the findings. Raises `PortError` when they can't be published."""
        for look in (self._look_at_store, self._look_at_keys, self._look_at_payouts, self._look_at_long_payouts):
            what = look.__name__.removeprefix("_look_at_")
            try:
                await look()
                self._missed.discard(what)
            except PortError as error:
                # Said once: a node that is away for a night would fill the log.
                if what not in self._missed:
                    _log.warning("look_failed", what=what, error=str(error))
                self._missed.add(what)
            except (BooksError, MoneyError, UnknownEventError) as error:
                _log.error("journal_unreadable", error=str(error), hint="see `satmeter audit`")
        await self._board.tell(self._findings())

    async def _look_at_store(self) -> None:
        losses = await self._store_losses()
        found = {address: loss for address, loss in losses.items() if loss not in self._allowed}
        if found != self._losses:
            say = _log.error if found else _log.info
            say("store_may_lose_writes" if found else "store_keeps_writes_again", losses=found)
        self._losses = found

    async def _look_at_keys(self) -> None:
        trouble = await self._check_keys()
        if trouble != self._key_trouble:
            say = _log.error if trouble else _log.info
            say("wallet_keys_wrong" if trouble else "wallet_keys_well_again", trouble=trouble)
        self._key_trouble = trouble

    async def _look_at_payouts(self) -> None:
        self._compared = await self._payouts.look()

    async def _look_at_long_payouts(self) -> None:
        """Log each payout once that the node leaves pending for long, and never fail one for that."""
        told, self._long = self._long, await self._board.long_payouts()
        known = {payout.payment_hash for payout in told}
        for payout in self._long:
            if payout.payment_hash not in known:
                _log.error(
                    "payout_pending_for_long",
                    actor_id=payout.actor_id,
                    payment_hash=payout.payment_hash,
                    amount_msat=payout.amount_msat,
                    since=timestamp(payout.since_ms),
                    hint='ask the node about this payment: see "A payout that stays pending" in docs/lightning.md',
                )

    def _findings(self) -> Findings:
        compared = self._compared or Comparison(0, 0, 0, None)
        return Findings(
            at_ms=self._now_ms(),
            unknown_payouts=compared.unknown_count,
            unknown_payouts_msat=compared.unknown_msat,
            compared_payouts=compared.compared_count,
            compared_since_ms=compared.since_ms,
            key_trouble=self._key_trouble,
            store_losses=self._losses,
            long_payouts=len(self._long),
            long_payouts_msat=sum(payout.amount_msat for payout in self._long),
            long_payouts_since_ms=min((payout.since_ms for payout in self._long), default=None),
        )

"""Look-ups of invoices by hash: one call for each while few are asked about, one for many when many wait.

Thousands of unpaid invoices lapse in the same minute, and the node is asked about each of them. LNbits lists payments
by a set of hashes, and with `recheck_pending` does for each of them what it does for a single one: its word in a list
is the same as alone. A hash that is missing from the list is asked about by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from ....config.log_context import in_background
from ...domain.payments.invoices import Settlement
from ...ports import PortError, TransientError
from ..lightning.reading import read
from .messages import Payment

_log = structlog.get_logger(__name__)

PATH: Final = "/api/v1/payments/paginated"
# Proxies take a request line of 8 kB. A hash and its comma need 67 bytes of it.
_AT_ONCE_MAX: Final = 64
# LNbits's words for a payment that has not come in. The single look-up must make sense of any other word.
_UNPAID: Final = frozenset({"pending", "failed"})

One = Callable[[str], Awaitable[Settlement | None]]
Many = Callable[[Mapping[str, str]], Awaitable[bytes]]


class _Page(msgspec.Struct, frozen=True):
    data: list[Payment]


class LookUps:
    """Look-ups of waiting hashes, at most `at_once` calls at a time. `one` asks about a hash, `many` with a query.

    After a list that failed the next one is half as long, down to single hashes, and after each that was answered one
    hash longer: the node may be too slow for so many, or may stumble over one of them.
    """

    def __init__(self, one: One, many: Many, at_once: int) -> None:
        self._one = one
        self._many = many
        self._at_once = at_once
        self._most = self._most_ever = _AT_ONCE_MAX
        self._waiting: dict[str, asyncio.Future[Settlement | None]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def look_up(self, payment_hash: str) -> Settlement | None:
        """Return the node's word on this hash. Raises what the call that asked raises.

        The wait before the call has no end.
        """
        answer = self._waiting.get(payment_hash)
        if answer is None:
            answer = self._waiting[payment_hash] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
            if len(self._asking) < self._at_once:
                task = in_background(self._ask())
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
        # Others may wait for the same answer.
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """End all calls; the callers that still wait get a `TransientError`."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        while self._waiting:
            _, answer = self._waiting.popitem()
            answer.set_exception(TransientError("the connection to the Lightning node was ended"))

    async def _ask(self) -> None:
        while self._waiting:
            hashes = list(self._waiting)[: self._most]
            batch = {payment_hash: self._waiting.pop(payment_hash) for payment_hash in hashes}
            try:
                await self._answer(batch)
            except Exception as error:
                self._most = max(1, self._most // 2)
                _fail(batch, error)
            except asyncio.CancelledError:
                _fail(batch, TransientError("the connection to the Lightning node was ended"))
                raise

    async def _answer(self, batch: Mapping[str, asyncio.Future[Settlement | None]]) -> None:
        told: Mapping[str, Settlement | None] = {}
        failed = False
        if len(batch) > 1:
            told = await self._ask_about(list(batch))
        for payment_hash, answer in batch.items():
            if payment_hash in told:
                answer.set_result(told[payment_hash])
                continue
            try:
                answer.set_result(await self._one(payment_hash))
            except PortError as error:
                failed = True
                answer.set_exception(error)
        self._most = min(self._most_ever, self._most if failed else self._most + 1)

    async def _ask_about(self, hashes: Sequence[str]) -> Mapping[str, Settlement | None]:
        query = {
            "payment_hash[in]": ",".join(hashes),
            "amount[gt]": "0",
            "recheck_pending": "true",
            "limit": str(len(hashes)),
        }
        rows = read(await self._many(query), _Page).data
        if not {row.payment_hash for row in rows} <= set(hashes):
            # LNbits passes over filters that it does not know.
            _log.warning("payments_not_listed_by_hash")
            self._most_ever = 1
            return {}
        return {row.payment_hash: told for row in rows if row.amount > 0 for told in _told(row)}


def _told(row: Payment) -> Sequence[Settlement | None]:
    """Return a row's word as a sequence of one, or an empty sequence where it says nothing for certain."""
    if row.status in _UNPAID:
        return [None]
    try:
        settlement = row.settlement()
    except TransientError:
        return []
    return [] if settlement is None else [settlement]


def _fail(batch: Mapping[str, asyncio.Future[Settlement | None]], error: Exception) -> None:
    for answer in batch.values():
        if not answer.done():
            answer.set_exception(error)


def _seen(answer: asyncio.Future[Settlement | None]) -> None:
    """Mark an error as seen for which no caller waits any more."""
    if not answer.cancelled():
        answer.exception()

"""Lists of what LND received and paid, in pages that stay in step while new payments come in.

LND lists invoices in the order in which they were made, the unpaid ones and those of other programs among them, and
has no list by the time of payment. So the paid ones of ours are remembered, in the order in which they were found, and
the open ones are read again: the newest at each look, and some of the older ones in turn. An old invoice that was paid
late is found within a few looks, also where no hint came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ...domain.payments.invoices import Settlement
from ...domain.payments.payouts import SentPayment
from .messages import OwnerOf, Row

# The newest invoices, which are read at each look. A look comes each second.
_NEWEST: Final = 100
# Invoices in one answer. With its parts, a paid one takes 2 kB, and that of a program that pays by streams up to 30.
_CHUNK: Final = 250
_PAGE: Final = 100
# Beyond this many the list begins again from the node's own.
_REMEMBERED_MAX: Final = 50_000

AskInvoices = Callable[[int, int, bool], Awaitable[Sequence[Row]]]
"""Asks for so many invoices beyond an index: made later, or (True) made before it. 0 stands for either end."""
AskPayments = Callable[[int, int], Awaitable[Sequence[tuple[int, SentPayment]]]]
"""Asks for so many payments with an index below this one, the newest first. 0 stands for the end."""


class PaidInvoices:
    """Paid invoices of ours, the last found first. New ones come in front, so that pages never skip one."""

    def __init__(self, ask: AskInvoices, owner_of: OwnerOf) -> None:
        self._ask = ask
        self._owner_of = owner_of
        self._turn = asyncio.Lock()
        self._found: list[Settlement] = []
        self._news: list[Settlement] = []
        self._seen: set[str] = set()
        self._open: set[int] = set()
        self._next_open = 0
        self._tip = 0
        self._bottom = 0
        self._has_looked = False
        self._is_all = False

    async def page(self, limit: int, offset: int) -> Sequence[Settlement]:
        """Return `limit` of them after `offset`; fewer only where the node has no more. Raises `PortError`."""
        async with self._turn:
            if offset == 0:
                await self._look()
            while not self._is_all and len(self._found) < offset + limit:
                await self._read_back()
            newest_first = self._news[::-1] + self._found if self._news else self._found
            self._news, self._found = [], newest_first
            return newest_first[offset : offset + limit]

    async def _look(self) -> None:
        """Read what is new, and again what was open."""
        if len(self._found) > _REMEMBERED_MAX:
            self._found.clear()
            self._seen.clear()
            self._has_looked = False
        newest = await self._ask(0, _NEWEST, True)
        tip = max((row.add_index for row in newest), default=0)
        lowest = min((row.add_index for row in newest), default=0)
        self._take(newest)
        if not self._has_looked:
            self._bottom, self._is_all, self._tip = lowest, len(newest) < _NEWEST, tip
        while lowest > self._tip + 1:
            rows = await self._ask(lowest, _CHUNK, True)
            if not rows:
                break
            self._take(rows)
            lowest = min(row.add_index for row in rows)
        self._has_looked = True
        self._tip = tip
        await self._read_open_again(lowest)

    async def _read_open_again(self, below: int) -> None:
        """Read a stretch of invoices that begins with the next open one."""
        waiting = [index for index in self._open if index < below]
        if not waiting:
            return
        first = min((index for index in waiting if index >= self._next_open), default=min(waiting))
        rows = await self._ask(first - 1, _CHUNK, False)
        self._take(rows)
        last = max((row.add_index for row in rows), default=first)
        self._next_open = max(last, first) + 1
        # One that was not listed where it should have been has been deleted, as LND does with lapsed ones.
        self._open -= {index for index in waiting if first <= index <= last} - {row.add_index for row in rows}

    async def _read_back(self) -> None:
        rows = await self._ask(self._bottom, _CHUNK, True) if self._bottom > 1 else []
        self._is_all = len(rows) < _CHUNK
        if rows:
            self._bottom = min(row.add_index for row in rows)
        self._take(rows, are_older=True)

    def _take(self, rows: Sequence[Row], *, are_older: bool = False) -> None:
        for row in sorted(rows, key=lambda row: row.add_index, reverse=are_older):
            if self._owner_of(row) is None:
                continue
            if not row.is_over:
                self._open.add(row.add_index)
                continue
            self._open.discard(row.add_index)
            settlement = row.settlement(self._owner_of)
            if settlement is not None and settlement.payment_hash not in self._seen:
                self._seen.add(settlement.payment_hash)
                (self._found if are_older else self._news).append(settlement)


class SentPayments:
    """Payments that the node made, its own and those of others, the newest first."""

    def __init__(self, ask: AskPayments) -> None:
        self._ask = ask
        self._begins: dict[int, int] = {}

    async def page(self, limit: int, offset: int) -> Sequence[SentPayment]:
        """Return `limit` of them after `offset`; fewer only where the node has no more. Raises `PortError`."""
        if offset == 0:
            self._begins.clear()
        begin = max((known for known in self._begins if known <= offset), default=0)
        while begin < offset:
            skipped = await self._read(min(_PAGE, offset - begin), begin)
            if not skipped:
                return []
            begin += len(skipped)
        return await self._read(limit, offset)

    async def _read(self, limit: int, begin: int) -> Sequence[SentPayment]:
        rows = await self._ask(limit, self._begins.get(begin, 0))
        if rows:
            self._begins[begin + len(rows)] = rows[-1][0]
        return [payment for _, payment in rows]

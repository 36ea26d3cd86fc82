"""The newest paid invoices of a wallet, asked for sparingly: a relay lets a client send only so much in a minute.

A sweep each second over a hundred rows would be hundreds of events a minute. Rows don't change once they are paid, so
a page of which all is known ends the question. While the wallet pushes news, it is asked only every few seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from .messages import Transaction

# Wallets that list by the age of invoices show an old one that was paid last in the middle. There no news is expected.
_WHOLE_EVERY_S: Final = 60.0
_FIRST_PAGE: Final = 5
REST_S: Final = 5.0

FetchPage = Callable[[int, int], Awaitable[Sequence[Transaction]]]
"""Fetches a page of paid invoices: how many at most, after how many. An empty one is the end."""


class RecentInvoices:
    """Memory of the newest paid invoices, the newest first.

    `hears_since_s` returns since when, by `monotonic_s`, no notification can have been missed; None if one may be
    missed now. For `rest_s` after a question its answer is then given again.
    """

    def __init__(
        self,
        fetch: FetchPage,
        hears_since_s: Callable[[], float | None],
        *,
        rest_s: float,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._fetch = fetch
        self._hears_since_s = hears_since_s
        self._rest_s = rest_s
        self._monotonic_s = monotonic_s
        self._rows: list[Transaction] = []
        self._limit = 0
        self._asked_at_s: float | None = None
        self._whole_at_s = 0.0

    async def newest(self, limit: int) -> list[Transaction]:
        """Return the newest `limit` rows. Raises what `fetch` raises."""
        now_s = self._monotonic_s()
        if self._limit < limit or self._asked_at_s is None or now_s - self._whole_at_s >= _WHOLE_EVERY_S:
            rows = await self._read(limit, set())
            self._whole_at_s = now_s
        elif self._may_rest(now_s, self._asked_at_s):
            return self._rows[:limit]
        else:
            rows = await self._read(limit, {_key(row) for row in self._rows})
        self._rows, self._limit, self._asked_at_s = rows, limit, now_s
        return rows

    async def _read(self, limit: int, known: set[object]) -> list[Transaction]:
        """Return the newest rows: those of the wallet until a page holds nothing new, and then the remembered ones."""
        found: list[Transaction] = []
        while len(found) < limit:
            most = limit - len(found)
            page = await self._fetch(min(most, _FIRST_PAGE) if known and not found else most, len(found))
            found += page
            if not page:
                return found
            if known and all(_key(row) in known for row in page):
                told = {_key(row) for row in found}
                found += [row for row in self._rows if _key(row) not in told]
                break
        return found[:limit]

    def _may_rest(self, now_s: float, asked_at_s: float) -> bool:
        since_s = self._hears_since_s()
        return since_s is not None and since_s <= asked_at_s and now_s - asked_at_s < self._rest_s


def _key(row: Transaction) -> object:
    return row.hash or (row.invoice, row.created_at, row.amount)

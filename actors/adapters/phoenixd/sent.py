"""List of payments that went out, the newest first.

phoenixd lists them in an order that it does not promise, and in fact the oldest first. It takes a time from which on:
so the list is read in ever longer steps into the past, and sorted here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ...domain.money import Msat
from ...domain.payments.bolt11 import read_invoice
from ...domain.payments.payouts import SentPayment
from ..lightning.reading import read, sane_msat
from .payouts import Outgoing

PATH: Final = "/payments/outgoing"
_PAGE: Final = 500
_FIRST_STEP_MS: Final = 86_400_000
_LONGER: Final = 4

Ask = Callable[[Mapping[str, str]], Awaitable[bytes]]
"""Asks for a page of the list by its query. Raises `PortError`."""


class SentPayments:
    """Reader of the list. What a caller has read is kept until one begins at the newest again."""

    def __init__(self, ask: Ask, now_ms: Callable[[], int]) -> None:
        self._ask = ask
        self._now_ms = now_ms
        self._rows: list[Outgoing] = []
        self._since_ms: int | None = None
        self._step_ms = _FIRST_STEP_MS

    async def newest(self, limit: int, offset: int) -> list[SentPayment]:
        """Return the payments by Lightning after the newest `offset`. Raises `PortError`."""
        rows, since_ms, step_ms = self._rows, self._since_ms, self._step_ms
        if offset == 0 or since_ms is None:
            rows, since_ms, step_ms = [], None, _FIRST_STEP_MS
        while len(rows) < offset + limit and since_ms != 0:
            before_ms, since_ms = since_ms, max(0, (self._now_ms() if since_ms is None else since_ms) - step_ms)
            rows = rows + await self._between(since_ms, before_ms)
            step_ms *= _LONGER
        self._rows, self._since_ms, self._step_ms = rows, since_ms, step_ms
        return [_sent(row) for row in rows[offset : offset + limit]]

    async def _between(self, since_ms: int, before_ms: int | None) -> list[Outgoing]:
        """Return the payments that ended in this time, the newest first."""
        query = {"from": str(since_ms), "limit": str(_PAGE)}
        if before_ms is not None:
            query["to"] = str(before_ms - 1)
        found: dict[str, Outgoing] = {}
        offset = 0
        while True:
            page = read(await self._ask({**query, "offset": str(offset)}), list[Outgoing])
            found |= {row.payment_id: row for row in page if row.is_paid and row.by_lightning}
            offset += len(page)
            if len(page) < _PAGE:
                break
        rows = reversed(found.values())
        return sorted(rows, key=lambda row: row.completed_at or row.created_at, reverse=True)


def _sent(row: Outgoing) -> SentPayment:
    """Return a row, which names no actor. Raises `TransientError` for an absurd amount."""
    fee_msat = sane_msat(row.fees)
    at_ms = row.completed_at or row.created_at
    return SentPayment(row.payment_id, row.payment_hash or "", _amount_msat(row), fee_msat, "", at_ms)


def _amount_msat(row: Outgoing) -> Msat:
    if row.invoice is not None:
        try:
            return read_invoice(row.invoice).amount_msat
        except ValueError:
            pass  # An invoice without an amount, which we never pay.
    return sane_msat(max(0, row.sent * 1_000 - row.fees))

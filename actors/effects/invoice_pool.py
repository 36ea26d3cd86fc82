"""Invoices made ahead: evaluation invoices are all alike, so some are kept ready while there is demand.

Such an invoice can't name its actor at the node, as there is none yet. It names the pool, and becomes an actor's by a
binding in the store, which is written before a client sees the invoice: before its actor's own first event, too. The
treasury reads the binding when the invoice was paid. Possible failures:

- The binding is written and the actor is not: no client saw the invoice, and the binding expires.
- The binding was not written, or that is unknown: the invoice is dropped unseen, and another one ordered.
- The invoice was dropped, and is paid all the same, which takes a user of our own wallet: it stays unowned, and the
  treasury logs it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from msgspec.structs import replace

from ...config.log_context import in_background
from ..domain.backoff import Backoff
from ..domain.job.behaviour import KEEP_UNPAID_MS
from ..domain.payments.invoices import MADE_AHEAD, Invoice
from ..ports import Bindings, InvoiceOrder, Lightning, PortError, TransientError, Urgency

KEEP_BOUND_MS: Final = 2 * KEEP_UNPAID_MS + 86_400_000
"""Time for which a binding is kept after its invoice's end while the invoice is unpaid.

As long as the job could still be paid, and a day for clocks that differ: its last write, that it expired, can come
`KEEP_UNPAID_MS` after the invoice's end, and it stays as long after that.
"""

_DEMAND_WINDOW_S: Final = 60.0
# An invoice made ahead lives longer than ordered by this time, for which it can be kept ready.
_SHELF_MAX_S: Final = 300
_SHELF_PART: Final = 4
# With less time, most invoices would be dropped before a client wants them.
_SHELF_MIN_S: Final = 10
_BACKOFF_FIRST_S: Final = 0.5
_BACKOFF_MAX_S: Final = 30.0
_log = structlog.get_logger(__name__)


class InvoicePool:
    """Pool of invoices of one kind, which gives out those made ahead first, and orders further ones.

    It keeps as many ready as were wanted in the last minute, at most `ahead_max`, so an idle server makes none. They
    are made in the background, one after the other and behind all invoices that a client waits for; no client ever
    waits for them. An invoice is given out only while it has at least the whole life left that was ordered.
    """

    def __init__(
        self,
        lightning: Lightning,
        bindings: Bindings,
        *,
        ahead_max: int,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lightning = lightning
        self._bindings = bindings
        self._now_ms = now_ms
        self._clock = clock
        self._pause = pause
        self._id = f"{MADE_AHEAD}_{secrets.token_hex(16)}"
        self._kind: InvoiceOrder | None = None
        self._ready: deque[Invoice] = deque()
        self._wanted_at_s: deque[float] = deque(maxlen=ahead_max)
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Return an invoice for the order's actor. Raises what `Lightning.create_invoice` raises."""
        invoice = self._take(order)
        self._fill()
        if invoice is not None and await self._bound(invoice, order.actor_id):
            return invoice
        return await self._lightning.create_invoice(order)

    async def close(self) -> None:
        """Stop making invoices. Those that are ready were never shown to a client, and lapse."""
        self._closed = True
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)

    def _take(self, order: InvoiceOrder) -> Invoice | None:
        kind = replace(order, actor_id=self._id, urgency=Urgency.AHEAD)
        if kind != self._kind:
            self._kind = kind
            self._ready.clear()
        self._wanted_at_s.append(self._clock())
        while self._ready:
            # Each invoice leaves the pool here, so that two actors can't get the same one.
            invoice = self._ready.popleft()
            if self._lives(invoice, order.expiry_s):
                return invoice
        return None

    def _lives(self, invoice: Invoice, expiry_s: int) -> bool:
        return invoice.expires_at_ms - self._now_ms() >= expiry_s * 1_000

    async def _bound(self, invoice: Invoice, actor_id: str) -> bool:
        """Make the invoice this actor's. Only then may it be shown to a client."""
        keep_ms = max(invoice.expires_at_ms - self._now_ms(), 0) + KEEP_BOUND_MS
        try:
            if await self._bindings.bind(invoice.payment_hash, actor_id, keep_ms):
                return True
        except TransientError as error:
            _log.warning("invoice_ahead_dropped_without_owner", error=str(error))
        else:
            _log.warning("invoice_ahead_dropped_as_paid", payment_hash=invoice.payment_hash)
        return False

    # Making invoices ahead

    def _fill(self) -> None:
        if self._missing() and not self._closed and (self._filling is None or self._filling.done()):
            self._filling = in_background(self._keep_filling())

    def _missing(self) -> bool:
        wanted = self._wanted_at_s
        while wanted and wanted[0] <= self._clock() - _DEMAND_WINDOW_S:
            wanted.popleft()
        return len(self._ready) < len(wanted)

    async def _keep_filling(self) -> None:
        """Make one after the other until there are enough, or the demand is over."""
        backoff = Backoff(_BACKOFF_FIRST_S, _BACKOFF_MAX_S)
        while self._kind is not None and _shelf_s(self._kind) >= _SHELF_MIN_S and self._missing():
            delay_s = backoff.next()
            try:
                await self._make(self._kind)
                backoff.reset()
                continue
            except PortError as error:
                # A node that is down is reported by the calls that wait for an invoice.
                _log.debug("invoice_ahead_failed", error=str(error), delay_s=delay_s)
            except Exception:
                _log.exception("invoice_ahead_broke")
            await self._pause(delay_s)

    async def _make(self, kind: InvoiceOrder) -> None:
        order = replace(kind, expiry_s=kind.expiry_s + _shelf_s(kind))
        invoice = await self._lightning.create_invoice(order)
        if not self._lives(invoice, kind.expiry_s):
            raise TransientError("the Lightning node's clock differs: what it makes ahead ends too soon")
        if kind == self._kind:
            self._ready.append(invoice)


def _shelf_s(kind: InvoiceOrder) -> int:
    return min(_SHELF_MAX_S, kind.expiry_s // _SHELF_PART)

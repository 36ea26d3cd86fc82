"""Lightning node client for wallets that speak Nostr Wallet Connect (NIP-47)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog

from ...domain.money import Msat
from ...domain.payments.invoices import Invoice, Settlement
from ...domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...ports import InvoiceOrder, PermanentError, TransientError
from ..lightning.descriptions import description_of
from ..lightning.invoice_queue import InvoiceQueue
from ..lightning.reading import is_payment_hash, rubbish, sane_msat
from . import payouts
from .exchange import Answer, Exchange
from .messages import (
    NO_RIGHT,
    RATE_LIMITED,
    Balance,
    Direction,
    Page,
    State,
    Transaction,
    failure,
    hinted_hash,
    invoiced_at_s,
    is_not_found,
    read,
    read_new_invoice,
)
from .recent import REST_S, RecentInvoices
from .rights import rights_trouble

# The event of a page must stay below 64 kB, which is the most that common relays take: a larger one never comes.
_PAGE_MAX: Final = 20
# A wallet may give fewer rows than it was asked for. More pages than this for one question are a wallet that pages
# in a circle.
_PAGES_MAX: Final = 64
PAYOUTS_AT_ONCE: Final = 2
_PAYOUT_LOOK_UPS_AT_ONCE: Final = 2

_log = structlog.get_logger(__name__)

Turn = AbstractAsyncContextManager[object]


class NwcLightning:
    """Implementation of `ports.Lightning`. Every call ends within `timeout_s`, but those that read pages.

    It keeps nothing of ours with a payment, so `pay_out` and `payout` leave `actor_id` alone: see `OwnedPayments`. Nor
    does it take a limit for routing fees. `url` is the connection URL: see `Exchange`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        concurrency: int,
        settles_s: float = payouts.SETTLES_S,
        rest_s: float = REST_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._exchange = Exchange(url, timeout_s=timeout_s, monotonic_s=monotonic_s)
        self._monotonic_s = monotonic_s
        self._page_max = _PAGE_MAX
        self._absences = payouts.Absences(self._exchange.seen_everywhere_since, settles_s=settles_s)
        self._recent = RecentInvoices(
            self._paid_invoices, self._exchange.hears_since_s, rest_s=rest_s, monotonic_s=monotonic_s
        )
        questions = max(1, concurrency // 4)
        self._question_slots = asyncio.Semaphore(questions)
        self._invoices = InvoiceQueue(max(1, concurrency - questions), patience_s=timeout_s)
        self._payout_slots = asyncio.Semaphore(PAYOUTS_AT_ONCE)
        self._payout_look_up_slots = asyncio.Semaphore(_PAYOUT_LOOK_UPS_AT_ONCE)

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice, and hold it to the order. Raises `TransientError` or `PermanentError`."""
        params = {
            "amount": Msat.from_sats(order.amount_sats).value,
            "description": description_of(order),
            "expiry": order.expiry_s,
        }
        answer = await self._ask("make_invoice", params, self._invoices.turn(order.urgency))
        return read_new_invoice(answer, order)

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """See `Lightning.lookup`. Raises `PermanentError` where the wallet does not tell whether it was paid."""
        if not is_payment_hash(payment_hash):
            return None
        return await self._incoming(payment_hash, self._question_slots)

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """See `Lightning.settlements`. Rows of other users of the wallet are there, without an actor."""
        rows = await (self._list(Direction.INCOMING, limit, offset) if offset else self._recent.newest(limit))
        # A row that can't be credited, of another user perhaps, must not hold up the others.
        return [
            row.settlement()
            for row in rows
            if row.type == Direction.INCOMING
            and row.incoming_state(listed_as_paid=True) is State.SETTLED
            and row.hash is not None
            and row.amount
        ]

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Send a payment, once. Raises `TransientError` whenever it may have been sent.

        NIP-47 knows no limit for routing fees, so `fee_limit_msat` is not sent: wallets have rules of their own.
        """
        self._absences.order(target.payment_hash)
        order = {"invoice": target.payment_request}
        answer = await self._ask("pay_invoice", order, self._payout_slots, is_order=True)
        report = payouts.read_order_answer(answer, target)
        if payouts.is_refusal(report):
            self._absences.refuse(target.payment_hash)
        return report

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """See `Lightning.payout`. Raises `TransientError` while the order may still reach the wallet."""
        asked_at_s = self._monotonic_s()
        query = {"payment_hash": target.payment_hash}
        answer = await self._ask("lookup_invoice", query, self._payout_look_up_slots)
        report = payouts.read_look_up(answer, target, failed=self._absences.has_failed(target.payment_hash))
        if report is None:
            report = await self._own_payment(read(answer, Transaction), target)
        if report.status is not PayoutStatus.ABSENT:
            self._absences.found(target.payment_hash, report.status)
        elif not self._absences.is_certain(target, asked_at_s):
            raise payouts.not_yet_certain()
        return report

    async def received(self, payment_hash: str) -> bool:
        """See `Lightning.received`."""
        return await self._incoming(payment_hash, self._payout_look_up_slots) is not None

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """See `Lightning.sent`. The wallet keeps no actor with a payment."""
        rows = await self._list(Direction.OUTGOING, limit, offset)
        return [
            payouts.sent_payment(row)
            for row in rows
            if row.type == Direction.OUTGOING and row.outgoing_state() is State.SETTLED
        ]

    async def balance(self) -> Msat:
        """Return the balance that this connection may see, not below zero."""
        told = read(await self._ask("get_balance", {}, self._question_slots), Balance)
        return sane_msat(max(0, told.balance))

    async def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes of the wallet's notifications. Raises `TransientError` when a connection breaks."""
        async for notice in self._exchange.notices():
            payment_hash = hinted_hash(notice.notification_type, notice.notification)
            if payment_hash is not None:
                yield payment_hash

    async def check(self) -> None:
        """Raise `TransientError` when the wallet can't be reached, `PermanentError` when it does not know our key."""
        # Any answer about a payment that can't exist shows that the wallet is there and reads us.
        answer = await self._ask("lookup_invoice", {"payment_hash": "0" * 64}, self._question_slots)
        if answer.error is not None and (answer.error.code in NO_RIGHT or answer.error.code == RATE_LIMITED):
            raise failure(answer.error)

    async def is_own(self, target: PayoutTarget) -> bool:
        """Return False: a wallet tells nothing of the invoices of other apps, and nothing of its fees beforehand."""
        return False

    async def trouble(self) -> str | None:
        """Return what the connection lacks, as a `RightsTrouble`. Raises `TransientError`."""
        return await rights_trouble(self._exchange)

    async def close(self) -> None:
        """End connections."""
        await self._exchange.close()

    async def _incoming(self, payment_hash: str, turn: Turn) -> Settlement | None:
        answer = await self._ask("lookup_invoice", {"payment_hash": payment_hash}, turn)
        if answer.error is not None and is_not_found(answer.error):
            return None
        row = read(answer, Transaction)
        if row.hash != payment_hash:
            raise rubbish("another payment than the one that was asked for")
        if row.type == Direction.OUTGOING:
            return await self._incoming_of_own_payment(row, payment_hash)
        match row.incoming_state():
            case State.SETTLED:
                return row.settlement()
            case State.UNTOLD:
                raise PermanentError("the wallet does not tell whether an invoice was paid")
        return None

    async def _incoming_of_own_payment(self, outgoing: Transaction, payment_hash: str) -> Settlement | None:
        """Return the credit of an invoice of ours that the wallet itself has paid: it shows the other half of it."""
        row = await self._find(Direction.INCOMING, outgoing, payment_hash)
        return row.settlement() if row is not None and row.incoming_state() is State.SETTLED else None

    async def _own_payment(self, incoming: Transaction, target: PayoutTarget) -> PayoutReport:
        """Return the report of a payment to an invoice of this wallet's own, of which it shows the other half."""
        row = await self._find(Direction.OUTGOING, incoming, target.payment_hash)
        if row is not None:
            return payouts.report_of(row, target, failed=self._absences.has_failed(target.payment_hash))
        if incoming.incoming_state() is not State.UNPAID:
            # Another wallet may have paid the invoice: that it was paid tells nothing of our order.
            raise PermanentError("the wallet does not tell what became of a payment to an invoice of its own")
        return PayoutReport(PayoutStatus.ABSENT)

    async def _find(self, direction: Direction, other: Transaction, payment_hash: str) -> Transaction | None:
        """Return the newest payment with this hash since its invoice was made, None where there is none.

        `other` is the payment's other half. Raises `TransientError` where there are too many to look through.
        """
        since_s, offset = invoiced_at_s(other), 0
        for _ in range(_PAGES_MAX):
            rows = await self._page(direction, offset, self._page_max, unpaid=True, since_s=since_s)
            for row in rows:
                if row.type == direction and row.hash == payment_hash:
                    return row
            if not rows:
                return None
            offset += len(rows)
        raise TransientError("the wallet has too many payments to find the one that was asked for")

    async def _list(self, direction: Direction, limit: int, offset: int) -> list[Transaction]:
        """Return `limit` paid rows after `offset`, or all there are: fewer rows than asked for are not the end."""
        found: list[Transaction] = []
        for _ in range(_PAGES_MAX):
            size = min(self._page_max, limit - len(found))
            rows = await self._page(direction, offset + len(found), size, unpaid=False)
            found += rows
            if not rows or len(found) >= limit:
                return found[:limit]
        return found

    async def _paid_invoices(self, limit: int, offset: int) -> Sequence[Transaction]:
        return await self._page(Direction.INCOMING, offset, min(limit, self._page_max), unpaid=False)

    async def _page(
        self, direction: Direction, offset: int, size: int, *, unpaid: bool, since_s: int | None = None
    ) -> Sequence[Transaction]:
        """Return a page of the wallet's list, or a shorter one where this one was too large to come."""
        params: dict[str, Any] = {"type": direction, "offset": offset, "unpaid": unpaid}
        if since_s is not None:
            params["from"] = since_s
        try:
            return await self._rows({**params, "limit": size})
        except TransientError:
            if size == 1:
                raise
            # Without an answer to the shortest question the size was not the reason.
            rows = await self._rows({**params, "limit": 1})
            self._page_max = min(self._page_max, max(1, size // 2))
            _log.info("wallet_pages_shortened", rows=self._page_max)
            return rows

    async def _rows(self, params: Mapping[str, Any]) -> Sequence[Transaction]:
        return read(await self._ask("list_transactions", params, self._question_slots), Page).rows

    async def _ask(self, method: str, params: Mapping[str, Any], turn: Turn, *, is_order: bool = False) -> Answer:
        """Exchange a request for an answer, within `timeout_s` with the wait for its turn. Raises `TransientError`."""
        try:
            async with asyncio.timeout(self._timeout_s), turn:
                return await self._exchange.ask(method, params, is_order=is_order)
        except TimeoutError:
            raise TransientError("the wallet did not answer in time") from None

"""Lightning node client for LND's REST interface, 0.17 and later.

LND keeps nothing of ours with a payment, so this client takes no notice of actors when it pays: see `OwnedPayments`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from ssl import SSLContext
from typing import Final

import httpx

from ...domain.money import Msat
from ...domain.payments.invoices import Invoice, Settlement
from ...domain.payments.payouts import PayoutReport, PayoutTarget, SentPayment
from ...ports import InvoiceKey, InvoiceOrder, TransientError
from ..lightning.descriptions import actor_in, description_of
from ..lightning.http_exchange import Answer
from ..lightning.invoice_queue import InvoiceQueue
from ..lightning.reading import is_payment_hash, rubbish, sane_msat
from . import payouts
from .hints import SUBSCRIBE, Hints
from .listing import PaidInvoices, SentPayments
from .marks import is_marked, new_preimage
from .messages import (
    NO_INVOICES,
    Balance,
    Info,
    Row,
    Rows,
    failure_in,
    invoice_order,
    is_unknown_invoice,
    read,
    read_new_invoice,
)
from .rest import Rest
from .rights import (
    GET_INFO,
    MacaroonError,
    MacaroonTrouble,
    is_about_macaroon,
    may,
    rights_of,
    shortage,
)

_INVOICES: Final = "/v1/invoices"
_INFO: Final = "/v1/getinfo"
_BALANCE: Final = "/v1/balance/channels"
# LND pays many at once. This many slow ones leave connections to ask for all else.
PAYOUTS_AT_ONCE: Final = 4
_PAYOUT_LOOK_UPS_AT_ONCE: Final = 2
_HINT_CONNECTIONS: Final = 1


class LndLightning:
    """Implementation of `ports.Lightning` with a macaroon, around which `OwnedPayments` belongs.

    Every call ends within `timeout_s`, its wait for one of `concurrency` slots included. A quarter of the slots is for
    questions, the others are for invoices that are made, see `InvoiceQueue`. Payouts have slots of their own, and
    look-ups may wait longer. Neither macaroon nor address are ever put into an exception. `route_hints`: invoices show
    the node's private channels.
    """

    def __init__(
        self,
        url: str,
        macaroon: bytes,
        invoice_key: InvoiceKey,
        *,
        verify: SSLContext | bool = True,
        timeout_s: float,
        concurrency: int,
        route_hints: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        questions = max(1, concurrency // 4)
        invoices = max(1, concurrency - questions)
        self._macaroon = macaroon
        self._invoice_key = invoice_key
        self._key: bytes | None = None
        self._route_hints = route_hints
        self._questions = asyncio.Semaphore(questions)
        # Look-ups don't get all of the slots, so that thousands of them leave room for the other questions.
        self._look_ups = asyncio.Semaphore(max(1, questions // 2))
        self._invoices = InvoiceQueue(invoices, patience_s=timeout_s)
        self._payouts = asyncio.Semaphore(PAYOUTS_AT_ONCE)
        self._payout_look_ups = asyncio.Semaphore(_PAYOUT_LOOK_UPS_AT_ONCE)
        self._rest = Rest(
            url,
            macaroon.hex(),
            verify=verify,
            timeout_s=timeout_s,
            connections=questions + invoices + PAYOUTS_AT_ONCE + _PAYOUT_LOOK_UPS_AT_ONCE + _HINT_CONNECTIONS,
            transport=transport,
        )
        self._hints = Hints(lambda query: self._rest.lines(SUBSCRIBE, query), self._owner_of)
        self._paid = PaidInvoices(self._list_invoices, self._owner_of)
        self._sent = SentPayments(self._list_payments)

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice, and hold it to the order. Raises `TransientError` or `PermanentError`.

        The order is turned away at once, with `retry_after_s`, when so many wait before it that the invoice could not
        be made in time.
        """
        if self._key is None:
            self._key = await self._invoice_key.made()
        preimage = new_preimage(self._key, order.actor_id)
        body = invoice_order(order, description_of(order), preimage, route_hints=self._route_hints)
        answer = await self._rest.ask("POST", _INVOICES, self._invoices.turn(order.urgency), json=body)
        return read_new_invoice(self._rest.good(answer), order, preimage)

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """Return the settled incoming payment with this hash, None while unpaid or unknown. Raises `PortError`."""
        row = await self._row(payment_hash) if is_payment_hash(payment_hash) else None
        await self._read_key()
        return None if row is None else row.settlement(self._owner_of)

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """Return our settled payments, the last found first. Raises `TransientError` or `PermanentError`."""
        await self._read_key()
        return await self._paid.page(limit, offset)

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Send a payment, once (see `Lightning.pay_out`). Raises `TransientError` whenever it may have been sent.

        LND never goes over the limit.
        """
        order = payouts.payment_order(target, fee_limit_msat)
        answer = await self._rest.ask("POST", payouts.SEND, self._payouts, json=order, first_line=True)
        failure = failure_in(answer.body)
        if failure is None:
            return payouts.read_update(self._rest.good(answer), target)
        report = payouts.read_order_failure(failure)
        if report is None:
            raise TransientError(str(self._rest.failure(answer)))
        return report

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Return the state of a payment. Raises `TransientError`, `PermanentError`."""
        path = payouts.track_path(target.payment_hash)
        answer = await self._rest.ask("GET", path, self._payout_look_ups, first_line=True)
        failure = failure_in(answer.body)
        if failure is None:
            return payouts.read_update(self._rest.good(answer), target)
        report = payouts.read_track_failure(failure)
        if report is None:
            raise self._rest.failure(answer)
        return report

    async def is_own(self, target: PayoutTarget) -> bool:
        """Return False: LND is not allowed to pay itself."""
        return False

    async def received(self, payment_hash: str) -> bool:
        """See `Lightning.received`. Raises `TransientError`, `PermanentError`."""
        return await self.lookup(payment_hash) is not None

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """Return payments that went out, also those of other programs. Raises `TransientError`, `PermanentError`."""
        return await self._sent.page(limit, offset)

    async def balance(self) -> Msat:
        """Return what our side of all channels holds beside payments under way. Raises `PortError`."""
        return sane_msat((await self._balance()).local_balance.msat)

    async def receivable(self) -> Msat:
        """Return what the other side of all channels holds, which is the most that can come in. Raises `PortError`."""
        return sane_msat((await self._balance()).remote_balance.msat)

    async def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes that LND says were paid. Raises `TransientError`, `PermanentError`."""
        await self._read_key()
        async for payment_hash in self._hints.heard():
            yield payment_hash

    async def info(self) -> Info:
        """Return what the node says about itself. Raises `PortError`."""
        return read(self._rest.good(await self._ask(_INFO)), Info)

    async def knows(self, payment_hash: str) -> bool:
        """Return whether the node has this invoice, paid or not. Raises `PortError`."""
        return await self._row(payment_hash) is not None

    async def check(self) -> None:
        """Raise `PortError` when the node can't be reached or does not take the macaroon."""
        await self.info()

    async def trouble(self) -> str | None:
        """Return what is wrong with the macaroon, as a `MacaroonTrouble`. Raises `TransientError`."""
        try:
            rights = rights_of(self._macaroon)
        except MacaroonError:
            return MacaroonTrouble.UNREADABLE
        if may(rights, GET_INFO):
            answer = await self._ask(_INFO)
            failure = failure_in(answer.body)
            if failure is not None and is_about_macaroon(failure):
                return MacaroonTrouble.REFUSED
            read(self._rest.good(answer), Info)
        return shortage(rights)

    async def close(self) -> None:
        """End connections."""
        await self._rest.close()

    async def _ask(self, path: str, params: dict[str, str] | None = None) -> Answer:
        return await self._rest.ask("GET", path, self._questions, params=params)

    async def _row(self, payment_hash: str) -> Row | None:
        # Thousands of unpaid invoices lapse in the same minute. The time-out begins after the wait for a turn.
        async with self._look_ups:
            answer = await self._ask(f"/v1/invoice/{payment_hash}")
        failure = failure_in(answer.body)
        if failure is not None and is_unknown_invoice(failure):
            return None
        row = read(self._rest.good(answer), Row)
        if row.payment_hash != payment_hash:
            raise rubbish("another invoice than the one that was asked for")
        return row

    async def _read_key(self) -> None:
        """Read the key of our invoices, which another server may have made. Raises `TransientError`."""
        if self._key is None:
            self._key = await self._invoice_key.read()

    def _owner_of(self, row: Row) -> str | None:
        """Return the actor that we made an invoice for; None for one of another program, whatever it is called."""
        actor_id = actor_in(row.memo)
        ours = actor_id is not None and self._key is not None and is_marked(row.preimage, self._key, actor_id)
        return actor_id if ours else None

    async def _balance(self) -> Balance:
        return read(self._rest.good(await self._ask(_BALANCE)), Balance)

    async def _list_invoices(self, index: int, limit: int, is_reversed: bool) -> Sequence[Row]:
        query = {
            "index_offset": str(index),
            "num_max_invoices": str(limit),
            "reversed": "true" if is_reversed else "false",
        }
        answer = await self._ask(_INVOICES, query)
        failure = failure_in(answer.body)
        if failure is not None and NO_INVOICES in failure.message.lower():
            return []
        rows = read(self._rest.good(answer), Rows).invoices
        if any(row.add_index >= index > 0 if is_reversed else row.add_index <= index for row in rows):
            raise rubbish("other invoices than those that were asked for")
        return rows

    async def _list_payments(self, limit: int, before_index: int) -> Sequence[tuple[int, SentPayment]]:
        query = payouts.sent_query(limit, before_index)
        rows = payouts.read_sent(self._rest.good(await self._ask(payouts.PAYMENTS, query)))
        if any(index >= before_index > 0 for index, _ in rows):
            raise rubbish("other payments than those that were asked for")
        return rows

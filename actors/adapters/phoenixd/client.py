"""Lightning node client for phoenixd's HTTP API.

Source of its answers: phoenixd 0.8, `src/commonMain/kotlin/fr/acinq/phoenixd/Api.kt`, and its API reference.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import httpx
import structlog

from ...domain.money import MSAT_PER_SAT, Msat
from ...domain.payments.invoices import Invoice, Settlement
from ...domain.payments.payouts import PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...ports import InvoiceOrder, PortError, TransientError
from ..lightning.http_exchange import Answer, HttpExchange
from ..lightning.invoice_queue import InvoiceQueue
from ..lightning.reading import is_payment_hash, read, sane_msat
from . import payouts
from .access import EMPTY_ORDER, RELEASE_MIN, trouble_of
from .hints import websocket_hints
from .messages import Balance, NodeInfo, invoice_form, read_incoming, read_new_invoice, read_received
from .sent import PATH as SENT_PATH
from .sent import SentPayments

# The node has one channel, and all payments go through it. The answer comes when the payment has ended.
PAYOUTS_AT_ONCE: Final = 4
"""Payments that are ordered at the same time."""
_PAYOUT_LOOK_UPS_AT_ONCE: Final = 2
# The node's own errors are short lines of text.
_DETAIL_MAX_BYTES: Final = 500

_log = structlog.get_logger(__name__)

HintSource = Callable[[], AsyncIterator[str]]
"""Opens a connection that yields payment hashes; raises `TransientError` when it breaks."""


class PhoenixdLightning:
    """Implementation of `ports.Lightning` for a phoenixd; `OwnedPayments` around it records whose the payments are.

    Every call ends within `timeout_s`, but for the wait of a look-up before others. Questions, new invoices and payouts
    have connections of their own. The password is never put into an exception.

    What arrives may be less than what the client paid, as the node takes the price of a channel from it. The client is
    credited what it paid; the difference is the operator's cost, and stands in `Settlement.kept_msat`.
    """

    def __init__(
        self,
        url: str,
        password: str,
        *,
        timeout_s: float,
        concurrency: int,
        transport: httpx.AsyncBaseTransport | None = None,
        hints: HintSource | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        token = base64.b64encode(f":{password}".encode()).decode()
        authorization = f"Basic {token}"
        self._headers = httpx.Headers({"Authorization": authorization})
        questions = max(2, concurrency // 4)
        invoices = max(1, concurrency - questions)
        self._question_slots = asyncio.Semaphore(questions)
        # Look-ups don't get all of the slots, so that thousands of them leave room for the other questions.
        self._look_up_slots = asyncio.Semaphore(max(1, questions // 2))
        self._invoices = InvoiceQueue(invoices, patience_s=timeout_s)
        self._payout_slots = asyncio.Semaphore(PAYOUTS_AT_ONCE)
        self._payout_look_up_slots = asyncio.Semaphore(_PAYOUT_LOOK_UPS_AT_ONCE)
        self._http = HttpExchange(
            url,
            secrets=(password, token),
            detail_of=detail_of,
            timeout_s=timeout_s,
            connections=questions + invoices + PAYOUTS_AT_ONCE + _PAYOUT_LOOK_UPS_AT_ONCE,
            transport=transport,
        )
        self._hints = hints or (lambda: websocket_hints(url, authorization, open_timeout_s=timeout_s))
        self._sent = SentPayments(self._sent_page, now_ms)

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice, and hold it to the order. Raises `TransientError` or `PermanentError`.

        The order is turned away at once, with `retry_after_s`, when so many wait before it that the invoice could not
        be made in time.
        """
        turn = self._invoices.turn(order.urgency)
        answer = await self._ask("POST", "/createinvoice", form=invoice_form(order), turn=turn)
        return read_new_invoice(self._http.good(answer), order)

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """Return the settled incoming payment with this hash. None while unpaid or unknown. Raises `PortError`."""
        if not is_payment_hash(payment_hash):
            return None
        async with self._look_up_slots:
            return await self._look_up(payment_hash)

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """Return settled payments, the newest first; those of other programs name no actor. Raises `PortError`."""
        query = {"limit": str(limit), "offset": str(offset)}
        return read_received(self._http.good(await self._ask("GET", "/payments/incoming", params=query)))

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Send a payment, once (see `Lightning.pay_out`). Raises `TransientError` whenever it may have been sent.

        The node takes no limit: it pays its peer's list price, whatever the route costs. More than that is logged.
        """
        form = payouts.payment_form(target)
        answer = await self._ask("POST", payouts.PATH, form=form, turn=self._payout_slots)
        report = payouts.read_order_answer(answer.status, answer.body, target)
        if report is None:
            raise TransientError(self._http.said(answer), answer.retry_after_s)
        if report.status is not PayoutStatus.PAID:
            return report
        report = await self._paid(target)
        if report.fee_msat > fee_limit_msat:
            _log.warning(
                "routing_fee_above_limit",
                payment_hash=target.payment_hash,
                actor_id=actor_id,
                fee_msat=report.fee_msat.value,
                limit_msat=fee_limit_msat.value,
            )
        return report

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Return the state of the payment to this hash, of any actor. Raises `PortError`.

        Of several orders the node tells of the one that is paid, then of one that is under way. A node that was killed
        between its books and its channel shows a payment as under way for ever: then so is the payout.
        """
        if not is_payment_hash(target.payment_hash):
            return payouts.ABSENT
        path = f"/payments/outgoingbyhash/{target.payment_hash}"
        answer = await self._ask("GET", path, turn=self._payout_look_up_slots)
        if payouts.is_unknown(answer.status, answer.body) or await self._is_unknown_to_old(answer):
            return payouts.ABSENT
        return payouts.read_payment(self._good_look_up(answer), target)

    async def is_own(self, target: PayoutTarget) -> bool:
        """Return False: also an invoice of its own the node pays by its peer, for the same price."""
        return False

    async def received(self, payment_hash: str) -> bool:
        """See `Lightning.received`. Raises `PortError`."""
        return await self.lookup(payment_hash) is not None

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """Return payments that went out, the newest first, none with an actor's name. Raises `PortError`."""
        return await self._sent.newest(limit, offset)

    async def balance(self) -> Msat:
        """Return what can be spent; a fee credit can't. Raises `PortError`."""
        balance = read(self._http.good(await self._ask("GET", "/getbalance")), Balance)
        return sane_msat(max(0, balance.balance_sat) * MSAT_PER_SAT)

    def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes that something claims were paid (see `Lightning.hints`). Raises `TransientError`."""
        return self._hints()

    async def check(self) -> None:
        """Raise `TransientError` when the node can't be reached, `PermanentError` when it refuses our password."""
        read(self._http.good(await self._ask("GET", "/getinfo")), NodeInfo)

    async def trouble(self) -> str | None:
        """Return what is wrong with the password, as a `Trouble`. Moves and orders nothing. Raises `TransientError`."""
        info = await self._ask("GET", "/getinfo")
        return trouble_of(info, await self._ask("POST", payouts.PATH, form=EMPTY_ORDER))

    async def close(self) -> None:
        """End connections."""
        await self._http.close()

    async def _look_up(self, payment_hash: str) -> Settlement | None:
        answer = await self._ask("GET", f"/payments/incoming/{payment_hash}")
        # This path was always there.
        if payouts.is_unknown(answer.status, answer.body) or payouts.is_unknown_path(answer.status, answer.body):
            return None
        return read_incoming(self._good_look_up(answer), payment_hash).settlement()

    async def _is_unknown_to_old(self, answer: Answer) -> bool:
        """Return True where an old node says "unknown path" of a payment that it does not know. Raises `PortError`.

        Where the node is so old that it has no such path, the answer says nothing of the payment.
        """
        if not payouts.is_unknown_path(answer.status, answer.body):
            return False
        info = read(self._http.good(await self._ask("GET", "/getinfo")), NodeInfo)
        return info.release is not None and info.release >= RELEASE_MIN

    async def _paid(self, target: PayoutTarget) -> PayoutReport:
        """Return the report of a payment that the node has just called paid, with its fee.

        Without an answer it is called pending, so that the fee is asked for again; so it is where the node's books
        contradict its own proof.
        """
        try:
            report = await self.payout(target, "")
        except PortError as error:
            _log.warning("fee_not_told", payment_hash=target.payment_hash, error=str(error))
            return payouts.PENDING
        return report if report.status is PayoutStatus.PAID else payouts.PENDING

    async def _sent_page(self, query: Mapping[str, str]) -> bytes:
        turn = self._payout_look_up_slots
        return self._http.good(await self._ask("GET", SENT_PATH, params=query, turn=turn))

    def _good_look_up(self, answer: Answer) -> bytes:
        """Return the body of a success. Raises `TransientError` for a 404 that does not say what is not found."""
        if answer.status == 404:
            raise TransientError(self._http.said(answer))
        return self._http.good(answer)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        turn: AbstractAsyncContextManager[object] | None = None,
    ) -> Answer:
        """Exchange a request for an answer, by default a question. Raises `TransientError`."""
        turn = turn or self._question_slots
        return await self._http.ask(method, path, headers=self._headers, form=form, params=params, turn=turn)


def detail_of(body: bytes) -> str | None:
    """Return the node's own words about an error: a line of text. None for a page, such as a proxy's."""
    text = body[:_DETAIL_MAX_BYTES].decode(errors="replace").strip()
    return None if not text or "<" in text or text.startswith("{") else text

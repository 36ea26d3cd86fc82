"""Lightning node client for LNbits's REST API. The stub node is the same client over another transport.

Source of LNbits's answers: LNbits 1.6.2, `core/views/payment_api.py`; tests/contract holds us to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import httpx
import msgspec

from ...domain.money import Msat
from ...domain.payments.invoices import Invoice, Settlement
from ...domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, PayoutTarget, SentPayment
from ...ports import InvoiceOrder, PermanentError, TransientError
from ..lightning.http_exchange import Answer, HttpExchange
from ..lightning.invoice_queue import InvoiceQueue
from ..lightning.reading import is_payment_hash, read, rubbish, sane_msat
from . import lookups, payouts
from .hints import websocket_hints
from .keys import key_trouble
from .messages import (
    ACTOR,
    TAG,
    Payment,
    Status,
    Wallet,
    detail_of,
    read_new_invoice,
)

# LNbits pays one invoice at a time for each wallet. An order that waits within LNbits is out of our sight, and would be
# paid long after we gave it up. Slow payments must also not take the slots of callers that ask whether they were paid.
_PAYOUTS_AT_ONCE: Final = 1
# LNbits asks its node about each pending payout, which may take long. Questions about invoices must not wait for it.
_PAYOUT_LOOK_UPS_AT_ONCE: Final = 2
_KEY_HEADER: Final = "X-Api-Key"
_UNKNOWN_PAYMENT: Final = "payment does not exist"

# Settled incoming payments of ours, the newest first. `updated_at` is when a payment was settled.
_SETTLED: Final[Mapping[str, str]] = {
    "status[eq]": "success",
    "amount[gt]": "0",
    "tag[eq]": TAG,
    "sortby": "updated_at",
    "direction": "desc",
}

HintSource = Callable[[], AsyncIterator[str]]
"""Opens a connection that yields payment hashes; raises `TransientError` when it breaks."""


class _Key(msgspec.Struct, frozen=True):
    """Wallet's key as the headers of a request, without a body and with one."""

    headers: httpx.Headers
    json_headers: httpx.Headers

    @classmethod
    def of(cls, key: str) -> _Key:
        return cls(
            httpx.Headers({_KEY_HEADER: key}),
            httpx.Headers({_KEY_HEADER: key, "Content-Type": "application/json"}),
        )


_NO_KEY: Final = _Key(httpx.Headers(), httpx.Headers())


class LnbitsLightning:
    """Implementation of `ports.Lightning` with a wallet's invoice key and, for payouts, its admin key.

    The invoice key can't spend. Every call ends within `timeout_s`, its wait for one of `concurrency` slots included. A
    quarter of the slots is for questions, which never wait for invoices that are made; the others are for these, see
    `InvoiceQueue`. Payouts have slots of their own, and look-ups may wait longer, in a line that shortens by many at
    once: see `LookUps`.

    Neither keys nor addresses are ever put into an exception. `transport` and `hints` are the stub node's way in.
    """

    def __init__(
        self,
        url: str,
        invoice_key: str,
        *,
        admin_key: str | None = None,
        timeout_s: float,
        concurrency: int,
        transport: httpx.AsyncBaseTransport | None = None,
        hints: HintSource | None = None,
    ) -> None:
        self._asking = _Key.of(invoice_key)
        self._spending = None if admin_key is None else _Key.of(admin_key)
        questions = max(1, concurrency // 4)
        invoices = max(1, concurrency - questions)
        self._question_slots = asyncio.Semaphore(questions)
        self._invoices = InvoiceQueue(invoices, patience_s=timeout_s)
        self._payout_slots = asyncio.Semaphore(_PAYOUTS_AT_ONCE)
        self._payout_look_up_slots = asyncio.Semaphore(_PAYOUT_LOOK_UPS_AT_ONCE)
        # Look-ups don't get all of the slots, so that thousands of them leave room for the other questions.
        self._look_ups = lookups.LookUps(self._look_up, self._list_by_hashes, max(1, questions // 2))
        connections = questions + invoices + _PAYOUTS_AT_ONCE + _PAYOUT_LOOK_UPS_AT_ONCE
        self._hints = hints or (lambda: websocket_hints(url, invoice_key, open_timeout_s=timeout_s))
        self._http = HttpExchange(
            url,
            secrets=(invoice_key, admin_key or ""),
            detail_of=detail_of,
            timeout_s=timeout_s,
            connections=connections,
            transport=transport,
        )
        # The URL is built once. Building it for each call would cost as much as all the rest of a request.
        self._payments = self._http.url("/api/v1/payments")

    async def create_invoice(self, order: InvoiceOrder) -> Invoice:
        """Make an invoice, and hold it to the order. Raises `TransientError` or `PermanentError`.

        The order is turned away at once, with `retry_after_s`, when so many wait before it that the invoice could not
        be made in time.
        """
        body = {
            "out": False,  # LNbits's default is to pay
            "unit": "sat",
            "amount": order.amount_sats,
            "memo": order.memo,
            "expiry": order.expiry_s,
            "extra": {"tag": TAG, ACTOR: order.actor_id},
        }
        answer = await self._ask("POST", self._payments, json=body, turn=self._invoices.turn(order.urgency))
        return read_new_invoice(self._http.good(answer), order)

    async def lookup(self, payment_hash: str) -> Settlement | None:
        """Return the settled incoming payment with this hash, by the node's own word. None while unpaid or unknown.

        Raises `TransientError`, and `PermanentError` when the payment exists but the node does not show it to our key:
        for a wrong key, LNbits answers with the bare status of any wallet's payment, even of one that went out.
        """
        return await self._look_ups.look_up(payment_hash) if is_payment_hash(payment_hash) else None

    async def settlements(self, limit: int, offset: int = 0) -> Sequence[Settlement]:
        """Return our settled payments, the newest first. Raises `TransientError` or `PermanentError`."""
        rows = await self._list({**_SETTLED, "limit": str(limit), "offset": str(offset)})
        found = [settlement for row in rows if (settlement := row.settlement()) is not None]
        return [settlement for settlement in found if settlement.actor_id is not None]

    async def pay_out(self, target: PayoutTarget, actor_id: str, fee_limit_msat: Msat) -> PayoutReport:
        """Send a payment, once (see `Lightning.pay_out`). Raises `TransientError` whenever it may have been sent.

        LNbits takes no fee limit with an order: its own is max(2 sat, 1 %) at its defaults.
        """
        if self._spending is None:
            return PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)
        order, key = payouts.payment_order(target, actor_id), self._spending
        answer = await self._ask("POST", self._payments, json=order, key=key, turn=self._payout_slots)
        report = payouts.read_order_answer(answer.status, answer.body, target, actor_id)
        if report is None:
            raise TransientError(self._http.said(answer), answer.retry_after_s)
        return report

    async def is_own(self, target: PayoutTarget) -> bool:
        """Return True for an unpaid invoice of any wallet of this LNbits. Raises `TransientError`, `PermanentError`.

        LNbits sets nothing aside for its own invoices, and pays another one with their payment hash not at all. Only
        without a key does it speak of other wallets' payments. A payment to a stranger's invoice that some wallet has
        under way looks the same; LNbits does not make it a second time.
        """
        path = f"/api/v1/payments/{target.payment_hash}"
        answer = await self._ask("GET", path, key=_NO_KEY, turn=self._payout_look_up_slots)
        if answer.status == 404 and _UNKNOWN_PAYMENT in (detail_of(answer.body) or "").lower():
            return False
        return payouts.is_unpaid(self._http.good(answer))

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Return the state of a payment of ours. Raises `TransientError`, and `PermanentError` without an admin key.

        The question uses the key that paid: the wallet of another key would know nothing of the payment.
        """
        query, key = payouts.payment_query(target), self._spending_key()
        answer = await self._ask("GET", payouts.PATH, params=query, key=key, turn=self._payout_look_up_slots)
        return payouts.read_list(self._http.good(answer), target, actor_id)

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """Return our payments that went out, the newest first. Raises `TransientError` or `PermanentError`."""
        query, key = payouts.sent_query(limit, offset), self._spending or self._asking
        answer = await self._ask("GET", payouts.PATH, params=query, key=key)
        return payouts.read_sent(self._http.good(answer))

    async def received(self, payment_hash: str) -> bool:
        """See `Lightning.received`. Raises `TransientError`, and `PermanentError` without an admin key."""
        key = self._spending_key()
        answer = await self._ask("GET", f"/api/v1/payments/{payment_hash}", key=key, turn=self._payout_look_up_slots)
        if answer.status == 404 and _UNKNOWN_PAYMENT in (detail_of(answer.body) or "").lower():
            return False
        # LNbits shows only the bare status, without details, of another wallet's payment.
        status = read(self._http.good(answer), Status)
        if not status.paid or status.details is None or status.details.payment_hash != payment_hash:
            return False
        # Of a payment within the wallet, LNbits shows the half that went out. It may also have gone to another wallet.
        return status.details.amount > 0 or await self._incoming(payment_hash, key) is not None

    async def balance(self) -> Msat:
        """Return the wallet's balance, not below zero. Raises `TransientError`, `PermanentError`."""
        wallet = read(self._http.good(await self._ask("GET", "/api/v1/wallet")), Wallet)
        return sane_msat(max(0, int(wallet.balance)))

    def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes that something claims were paid (see `Lightning.hints`). Raises `TransientError`."""
        return self._hints()

    async def check(self) -> None:
        """Raise `TransientError` when the node can't be reached, `PermanentError` when it does not know our key."""
        read(self._http.good(await self._ask("GET", "/api/v1/wallet")), Wallet)

    async def trouble(self) -> str | None:
        """Return what is wrong with the keys, as a `KeyTrouble`. Moves and orders nothing. Raises `TransientError`."""
        keys = {"invoice": self._asking, "admin": self._spending or self._asking}

        async def ask(method: str, path: str, key: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
            answer = await self._ask(method, path, json=body, key=keys[key])
            return answer.status, answer.body

        return await key_trouble(ask, "invoice", None if self._spending is None else "admin", may_order=False)

    async def close(self) -> None:
        """End connections."""
        await self._look_ups.close()
        await self._http.close()

    async def _look_up(self, payment_hash: str) -> Settlement | None:
        answer = await self._ask("GET", f"/api/v1/payments/{payment_hash}")
        # Only LNbits's own words count. Taking a proxy's 404 for "unknown" would let a paid invoice lapse.
        if answer.status == 404 and _UNKNOWN_PAYMENT in (detail_of(answer.body) or "").lower():
            return None
        status = read(self._http.good(answer), Status)
        if status.details is None:
            raise PermanentError("the Lightning node shows no details: the invoice key is not that of the wallet")
        if status.details.payment_hash != payment_hash:
            raise rubbish("another payment than the one that was asked for")
        if status.details.amount < 0:
            return await self._incoming(payment_hash)
        return status.details.settlement() if status.paid else None

    async def _list_by_hashes(self, query: Mapping[str, str]) -> bytes:
        return self._http.good(await self._ask("GET", lookups.PATH, params=query))

    async def _incoming(self, payment_hash: str, key: _Key | None = None) -> Settlement | None:
        """Return the incoming half of a payment that our wallet made to itself.

        Asked for one row by its hash, LNbits shows the other half.
        """
        for row in await self._list({**_SETTLED, "payment_hash[eq]": payment_hash, "limit": "1"}, key):
            if row.payment_hash == payment_hash:
                return row.settlement()
        return None

    async def _list(self, query: Mapping[str, str], key: _Key | None = None) -> list[Payment]:
        return read(self._http.good(await self._ask("GET", self._payments, params=query, key=key)), list[Payment])

    def _spending_key(self) -> _Key:
        if self._spending is None:
            raise PermanentError("there is no admin key, and nothing can be paid out without one")
        return self._spending

    async def _ask(
        self,
        method: str,
        where: str | httpx.URL,
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        key: _Key | None = None,
        turn: AbstractAsyncContextManager[None] | None = None,
    ) -> Answer:
        """Exchange a request for an answer at a path or URL, by default a question with the invoice key.

        Raises `TransientError`.
        """
        key = key or self._asking
        content, headers = (None, key.headers) if json is None else (msgspec.json.encode(json), key.json_headers)
        turn = turn or self._question_slots
        return await self._http.ask(method, where, headers=headers, content=content, params=params, turn=turn)

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
from ...ports import InvoiceOrder, PermanentError, PortError, TransientError
from . import lookups, payouts
from .hints import websocket_hints
from .invoice_queue import InvoiceQueue
from .keys import key_trouble
from .messages import (
    ACTOR,
    TAG,
    Payment,
    Status,
    Wallet,
    detail_of,
    is_payment_hash,
    read,
    read_new_invoice,
    rubbish,
    sane_msat,
)

# A list of 100 payments takes 200 kB; other users of the wallet may attach more to theirs.
_BODY_MAX_BYTES: Final = 8 * 1_048_576
_RETRY_AFTER_MAX_S: Final = 60.0
_DETAIL_MAX_CHARS: Final = 200
# Statuses below 500 that are not the fault of the request: time-out, too early, too many.
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})
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


class _Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    retry_after_s: float | None


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
        self._secrets = (invoice_key,) if admin_key is None else (invoice_key, admin_key)
        self._asking = _Key.of(invoice_key)
        self._spending = None if admin_key is None else _Key.of(admin_key)
        self._timeout_s = timeout_s
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
        self._client = httpx.AsyncClient(
            base_url=url,
            transport=transport,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"Accept": "application/json"},
        )
        # The URL is built once. Building it for each call would cost as much as all the rest of a request.
        self._payments = self._client.build_request("GET", "/api/v1/payments").url

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
        return read_new_invoice(self._good(answer), order)

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
            raise TransientError(self._said(answer), answer.retry_after_s)
        return report

    async def payout(self, target: PayoutTarget, actor_id: str) -> PayoutReport:
        """Return the state of a payment of ours. Raises `TransientError`, and `PermanentError` without an admin key.

        The question uses the key that paid: the wallet of another key would know nothing of the payment.
        """
        query, key = payouts.payment_query(target), self._spending_key()
        answer = await self._ask("GET", payouts.PATH, params=query, key=key, turn=self._payout_look_up_slots)
        return payouts.read_list(self._good(answer), target, actor_id)

    async def sent(self, limit: int, offset: int = 0) -> Sequence[SentPayment]:
        """Return our payments that went out, the newest first. Raises `TransientError` or `PermanentError`."""
        query, key = payouts.sent_query(limit, offset), self._spending or self._asking
        answer = await self._ask("GET", payouts.PATH, params=query, key=key)
        return payouts.read_sent(self._good(answer))

    async def received(self, payment_hash: str) -> bool:
        """See `Lightning.received`. Raises `TransientError`, and `PermanentError` without an admin key."""
        key = self._spending_key()
        answer = await self._ask("GET", f"/api/v1/payments/{payment_hash}", key=key, turn=self._payout_look_up_slots)
        if answer.status == 404 and _UNKNOWN_PAYMENT in (detail_of(answer.body) or "").lower():
            return False
        # LNbits shows only the bare status, without details, of another wallet's payment.
        status = read(self._good(answer), Status)
        return status.paid and status.details is not None and status.details.payment_hash == payment_hash

    async def balance(self) -> Msat:
        """Return the wallet's balance, not below zero. Raises `TransientError`, `PermanentError`."""
        wallet = read(self._good(await self._ask("GET", "/api/v1/wallet")), Wallet)
        return sane_msat(max(0, int(wallet.balance)))

    def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes that something claims were paid (see `Lightning.hints`). Raises `TransientError`."""
        return self._hints()

    async def check(self) -> None:
        """Raise `TransientError` when the node can't be reached, `PermanentError` when it does not know our key."""
        read(self._good(await self._ask("GET", "/api/v1/wallet")), Wallet)

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
        await self._client.aclose()

    async def _look_up(self, payment_hash: str) -> Settlement | None:
        answer = await self._ask("GET", f"/api/v1/payments/{payment_hash}")
        # Only LNbits's own words count. Taking a proxy's 404 for "unknown" would let a paid invoice lapse.
        if answer.status == 404 and _UNKNOWN_PAYMENT in (detail_of(answer.body) or "").lower():
            return None
        status = read(self._good(answer), Status)
        if status.details is None:
            raise PermanentError("the Lightning node shows no details: the invoice key is not that of the wallet")
        if status.details.payment_hash != payment_hash:
            raise rubbish("another payment than the one that was asked for")
        if status.details.amount < 0:
            return await self._incoming(payment_hash)
        return status.details.settlement() if status.paid else None

    async def _list_by_hashes(self, query: Mapping[str, str]) -> bytes:
        return self._good(await self._ask("GET", lookups.PATH, params=query))

    async def _incoming(self, payment_hash: str) -> Settlement | None:
        """Return the incoming half of a payment that our wallet made to itself.

        Asked for one row by its hash, LNbits shows the other half.
        """
        for row in await self._list({**_SETTLED, "payment_hash[eq]": payment_hash, "limit": "1"}):
            if row.payment_hash == payment_hash:
                return row.settlement()
        return None

    async def _list(self, query: Mapping[str, str]) -> list[Payment]:
        return read(self._good(await self._ask("GET", self._payments, params=query)), list[Payment])

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
    ) -> _Answer:
        """Exchange a request for an answer at a path or URL, by default a question with the invoice key.

        Raises `TransientError`.
        """
        key = key or self._asking
        content, headers = (None, key.headers) if json is None else (msgspec.json.encode(json), key.json_headers)
        try:
            async with asyncio.timeout(self._timeout_s), turn or self._question_slots:
                request = self._client.build_request(method, where, content=content, params=params, headers=headers)
                return await self._exchange(request)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            # Only the type is shown: the text of some errors holds the address, or a header that could not be sent.
            raise TransientError(f"the Lightning node can't be reached: {type(error).__name__}") from None

    async def _exchange(self, request: httpx.Request) -> _Answer:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _BODY_MAX_BYTES:
                    raise rubbish("more than it was asked for")
            return _Answer(response.status_code, bytes(body), _retry_after_s(response))
        finally:
            await response.aclose()

    def _good(self, answer: _Answer) -> bytes:
        """Return the body of a success. Raises `PortError` for everything else."""
        if 200 <= answer.status < 300:
            return answer.body
        raise self._failure(answer)

    def _failure(self, answer: _Answer) -> PortError:
        detail, said = detail_of(answer.body), self._said(answer)
        if answer.status in (401, 403):
            return PermanentError(said)
        # Without LNbits's own words it may be a proxy's answer for a server that is restarting.
        if 400 <= answer.status < 500 and answer.status not in _TRANSIENT_STATUSES and detail is not None:
            return PermanentError(said)
        return TransientError(said, answer.retry_after_s)

    def _said(self, answer: _Answer) -> str:
        """Return the answer in words for the operator, without our keys."""
        detail = detail_of(answer.body)
        if detail is None:
            return f"the Lightning node answered {answer.status}"
        for key in self._secrets:
            detail = detail.replace(key, "[key]")
        return f"the Lightning node answered {answer.status}: {detail[:_DETAIL_MAX_CHARS]}"


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _RETRY_AFTER_MAX_S) if text.isascii() and text.isdigit() else None

"""Paying half of the stub node: its wallet pays any invoice of its own network, as far as its balance goes.

An invoice that the stub node did not make has no payee to reach, so it counts as paid. One of its own is settled as if
a wallet had paid it. Routing is free.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import msgspec
from redis.asyncio import Redis

from ...domain.money import MoneyError, Msat
from ...domain.payments.bolt11 import ReadInvoice, read_invoice
from ...domain.payments.invoices import Invoice
from .bolt11_signing import CURRENCY, sign_invoice
from .store import (
    BALANCE,
    CHANNEL,
    EXPIRY_DEFAULT_S,
    OUTGOING,
    PAID,
    PAYMENT,
    SENT,
    Order,
    payment_refusal,
    refusal,
    rfc3339,
    text,
)

# The script does all or nothing, as several processes pay from one wallet. A payment to itself keeps the balance.
_PAY_OUT: Final = """
local outgoing, incoming, paid, balance, sent = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local hash, amount, payment, invoice, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('EXISTS', outgoing) == 1 then return 'again' end
local own = redis.call('GET', incoming)
if own and redis.call('ZSCORE', paid, hash) then return 'paid' end
if own and cjson.decode(own)['bolt11'] ~= invoice then return 'changed' end
if tonumber(redis.call('GET', balance) or '0') < tonumber(amount) then return 'poor' end
redis.call('SET', outgoing, payment)
local now = redis.call('TIME')
redis.call('ZADD', sent, now[1] * 1000000 + now[2], hash)
if own then
  redis.call('ZADD', paid, now[1] * 1000000 + now[2], hash)
  redis.call('PERSIST', incoming)
  redis.call('PUBLISH', channel, hash)
else
  redis.call('DECRBY', balance, amount)
end
return 'sent'
"""

# LNbits's words for the script's refusals. The first is for a payment that the wallet made before.
_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "again": ("Payment already paid.", "success"),
    "paid": ("Internal invoice already paid.", "failed"),
    "changed": ("Invalid invoice. Bolt11 changed.", "failed"),
    "poor": ("Insufficient balance.", "failed"),
}
_CUSTOMER_MEMO: Final = "A customer's wallet"


class StubPayouts:
    """Payouts of the stub node, answered as LNbits does. Raises what the store's client raises."""

    def __init__(self, redis: Redis, now_s: Callable[[], int]) -> None:
        self._redis = redis
        self._now_s = now_s
        self._pay_out = redis.register_script(_PAY_OUT)

    async def pay(self, order: Order) -> httpx.Response:
        """Pay an invoice, once."""
        if not order.bolt11:
            return refusal(400, "Missing BOLT11 invoice")
        try:
            invoice = read_invoice(order.bolt11)
        except ValueError as error:
            return payment_refusal(f"Bolt11 decoding failed: {error}.")
        if invoice.currency != CURRENCY:
            return payment_refusal("Payment failed: the invoice is for another network.")
        if invoice.expires_at_ms <= self._now_s() * 1_000:
            return payment_refusal("Payment failed: the invoice has expired.")
        payment = self._payment(order, invoice)
        keys = [OUTGOING + invoice.payment_hash, PAYMENT + invoice.payment_hash, PAID, BALANCE, SENT]
        amount_msat, shown = str(invoice.amount_msat.value), msgspec.json.encode(payment).decode()
        args = [invoice.payment_hash, amount_msat, shown, invoice.payment_request, CHANNEL]
        outcome = text(await self._pay_out(keys=keys, args=args))
        if outcome in _REFUSALS:
            return payment_refusal(*_REFUSALS[outcome])
        return httpx.Response(201, json=payment)

    async def list(self, query: Mapping[str, str]) -> httpx.Response:
        """Return the payment to an invoice, as a list of none or one; else all payments that went out, newest first."""
        payment_hash = query.get("payment_hash[eq]")
        if query.get("amount[lt]") != "0":
            return refusal(400, "The stub node shows what went out.")
        if payment_hash is None:
            return await self._newest(int(query.get("limit", "10")), int(query.get("offset", "0")))
        stored = await self._redis.get(OUTGOING + payment_hash)
        data = [] if stored is None else [msgspec.json.decode(stored)]
        return httpx.Response(200, json={"data": data, "total": len(data)})

    async def _newest(self, limit: int, offset: int) -> httpx.Response:
        hashes: Any = await self._redis.zrevrange(SENT, offset, offset + limit - 1) if limit > 0 else []
        async with self._redis.pipeline(transaction=False) as pipe:
            for payment_hash in hashes:
                pipe.get(OUTGOING + text(payment_hash))
            data = [msgspec.json.decode(stored) for stored in await pipe.execute()]
            total = await self._redis.zcard(SENT)
        return httpx.Response(200, json={"data": data, "total": total})

    def customer_invoice(self, amount_sats: int) -> Invoice:
        """Return an invoice of a customer's wallet, on a node of its own that exists for nothing else.

        Raises `ValueError` for an amount that no invoice can have.
        """
        try:
            amount_msat = Msat.from_sats(amount_sats)
        except MoneyError as error:
            raise ValueError(str(error)) from None
        payment_request = sign_invoice(
            secrets.token_hex(32),
            payment_hash=secrets.token_hex(32),
            payment_secret=secrets.token_hex(32),
            amount_msat=amount_msat,
            memo=_CUSTOMER_MEMO,
            at_s=self._now_s(),
            expiry_s=EXPIRY_DEFAULT_S,
        )
        read = read_invoice(payment_request)
        return Invoice(payment_request, read.payment_hash, amount_sats, read.expires_at_ms)

    def _payment(self, order: Order, invoice: ReadInvoice) -> dict[str, Any]:
        at = rfc3339(self._now_s())
        return {
            "checking_id": f"internal_{invoice.payment_hash}",
            "payment_hash": invoice.payment_hash,
            "amount": -invoice.amount_msat.value,
            "fee": 0,
            "bolt11": invoice.payment_request,
            "payment_request": invoice.payment_request,
            "status": "success",
            "memo": order.memo,
            "expiry": rfc3339(invoice.expires_at_ms // 1_000),
            "preimage": None,
            "tag": order.extra.get("tag"),
            "created_at": at,
            "updated_at": at,
            "extra": order.extra,
        }

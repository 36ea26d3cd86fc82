"""Lightning node without Lightning, as an HTTP transport under the LNbits client: for development and load tests.

It makes real invoices (regtest, signed, decodable), which are paid by `pay`, by its own wallet, and by nothing else.
Its state is in the store, so that all processes see one node: see `store.py`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import httpx
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ...domain.money import Msat
from ...domain.payments.invoices import Invoice
from ...ports import TransientError
from ..lightning.reading import is_payment_hash
from ..lnbits.lookups import PATH as PAGE
from ..redis.batch import Grouped
from ..redis.client import TIMEOUT_S
from .bolt11_signing import sign_invoice
from .payouts import StubPayouts
from .store import BALANCE, CHANNEL, NODE_KEY, PAID, PAYMENT, Order, answer, refusal, rfc3339, text

URL: Final = "http://stub-node.invalid"
"""Address of the node for its client; no name server knows it, so nothing can go astray."""
KEY: Final = "stub"
"""Invoice key and admin key for the client; the stub takes any."""

# Time for which an unpaid invoice stays known after its expiry, so that a late payment can be tried out.
_KEEP_UNPAID_S: Final = 7 * 86_400
# Capacity of an invoice's description field (BOLT 11: ten bits count words of five bits).
_MEMO_MAX_BYTES: Final = 639
_HINT_WAIT_S: Final = 1.0
_PAYMENT_PATH: Final = re.compile(r"/api/v1/payments/([^/]*)")

_PAY: Final = """
local payment = redis.call('GET', KEYS[1])
if not payment then return false end
local now = redis.call('TIME')
if redis.call('ZADD', KEYS[2], 'NX', now[1] * 1000000 + now[2], ARGV[1]) == 1 then
  redis.call('PERSIST', KEYS[1])
  redis.call('INCRBY', KEYS[3], cjson.decode(payment)['amount'])
end
redis.call('PUBLISH', ARGV[2], ARGV[1])
return payment
"""

_NEWEST: Final = """
local newest = redis.call('ZREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
local found = {}
for i = 1, #newest, 2 do
  found[i] = redis.call('GET', ARGV[3] .. newest[i])
  found[i + 1] = newest[i + 1]
end
return found
"""


class _Paid(msgspec.Struct):
    preimage: str


class StubNode(httpx.AsyncBaseTransport):
    """Transport that answers as LNbits: make and pay invoices, look them up, list the newest settled, the wallet.

    A preimage is random, and shown with a paid invoice only.
    """

    def __init__(self, redis: Redis, *, now_s: Callable[[], int] = lambda: int(time.time())) -> None:
        self._redis = redis
        self._writes = Grouped(redis, TIMEOUT_S)
        self._now_s = now_s
        self._node_key: str | None = None
        self._payouts = StubPayouts(redis, now_s)
        self._pay = redis.register_script(_PAY)
        self._newest = redis.register_script(_NEWEST)

    async def pay(self, payment_hash: str) -> str | None:
        """Mark an invoice paid, also an expired one, and notify all listeners. Return its preimage, None if unknown.

        Paying again changes nothing, and notifies them again. Raises `TransientError`.
        """
        keys = [f"{PAYMENT}{payment_hash}", PAID, BALANCE]
        try:
            paid = await self._pay(keys=keys, args=[payment_hash, CHANNEL])
        except (RedisError, OSError) as error:
            raise TransientError(f"the stub node's store can't be reached: {type(error).__name__}") from None
        return msgspec.json.decode(paid, type=_Paid).preimage if paid is not None else None

    async def invoice(self, amount_sats: int) -> Invoice:
        """Return an invoice of a customer's wallet, to be paid out to; this node forgets it at once.

        Raises `ValueError` for an amount that no invoice can have.
        """
        return self._payouts.customer_invoice(amount_sats)

    async def hints(self) -> AsyncIterator[str]:
        """Yield payment hashes as they are paid, until the store's connection breaks. Raises `TransientError`."""
        try:
            async with self._redis.pubsub() as pubsub:
                await pubsub.subscribe(CHANNEL)
                while True:
                    # `listen` would not do: it takes the client's time-out for a broken connection.
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=_HINT_WAIT_S)
                    payment_hash = text(message["data"]) if message is not None else ""
                    if is_payment_hash(payment_hash):
                        yield payment_hash
        except (RedisError, OSError) as error:
            raise TransientError(f"the stub node's hints broke: {type(error).__name__}") from None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer that LNbits would give. Raises `httpx.ConnectError` when the store can't be reached."""
        path = request.url.path
        one = _PAYMENT_PATH.fullmatch(path)
        try:
            match request.method:
                case "POST" if path == "/api/v1/payments":
                    return await self._order(await request.aread())
                case "GET" if path == "/api/v1/payments":
                    return await self._list(request.url.params)
                case "GET" if path == PAGE and "payment_hash[in]" in request.url.params:
                    return await self._find(request.url.params)
                case "GET" if path == PAGE:
                    return await self._payouts.list(request.url.params)
                case "GET" if path == "/api/v1/wallet":
                    balance_msat = int(await self._redis.get(BALANCE) or 0)
                    return answer(200, {"name": "stub", "balance": balance_msat})
                case "GET" if one is not None:
                    return await self._show(one[1])
        except (RedisError, OSError) as error:
            raise httpx.ConnectError(f"the stub node's store: {type(error).__name__}") from None
        return refusal(404, "Not Found")

    async def _order(self, body: bytes) -> httpx.Response:
        try:
            order = msgspec.json.decode(body, type=Order)
        except msgspec.MsgspecError as error:
            return refusal(400, str(error))
        return await (self._payouts.pay(order) if order.out else self._create(order))

    async def _create(self, order: Order) -> httpx.Response:
        if order.unit != "sat" or order.expiry < 1 or len(order.memo.encode()) > _MEMO_MAX_BYTES:
            return refusal(400, "The stub node takes sats, an expiry of at least a second and a memo that fits.")
        if order.amount < 1:
            return refusal(520, "Amountless invoices not supported.")
        payment = await self._new_payment(order)
        key = f"{PAYMENT}{payment['payment_hash']}"
        await self._writes.run("SET", key, msgspec.json.encode(payment), "EX", order.expiry + _KEEP_UNPAID_S)
        return answer(201, _shown(payment, None))

    async def _new_payment(self, order: Order) -> dict[str, Any]:
        preimage, now_s = secrets.token_bytes(32), self._now_s()
        payment_hash = hashlib.sha256(preimage).hexdigest()
        amount_msat = Msat.from_sats(order.amount)
        payment_request = sign_invoice(
            await self._signing_key(),
            payment_hash=payment_hash,
            payment_secret=secrets.token_hex(32),
            amount_msat=amount_msat,
            memo=order.memo,
            at_s=now_s,
            expiry_s=order.expiry,
        )
        return {
            "checking_id": payment_hash,
            "payment_hash": payment_hash,
            "amount": amount_msat.value,
            "fee": 0,
            "bolt11": payment_request,
            "payment_request": payment_request,
            "memo": order.memo,
            "expiry": rfc3339(now_s + order.expiry),
            "preimage": preimage.hex(),
            "tag": order.extra.get("tag"),
            "created_at": rfc3339(now_s),
            "extra": order.extra,
        }

    async def _show(self, payment_hash: str) -> httpx.Response:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(f"{PAYMENT}{payment_hash}")
            pipe.zscore(PAID, payment_hash)
            stored, paid_at_us = await pipe.execute()
        if stored is None:
            return refusal(404, "Payment does not exist.")
        payment = _shown(msgspec.json.decode(stored), paid_at_us)
        paid = payment["status"] == "success"
        preimage = payment["preimage"]
        return answer(200, {"paid": paid, "status": payment["status"], "preimage": preimage, "details": payment})

    async def _find(self, query: Mapping[str, str]) -> httpx.Response:
        """Return the incoming payments with certain hashes."""
        if query.get("amount[gt]") != "0":
            return refusal(400, "The stub node finds invoices by their hashes.")
        hashes = query["payment_hash[in]"].split(",")[: int(query.get("limit", "10"))]
        async with self._redis.pipeline(transaction=False) as pipe:
            for payment_hash in hashes:
                pipe.get(f"{PAYMENT}{payment_hash}")
                pipe.zscore(PAID, payment_hash)
            found = await pipe.execute()
        pairs = zip(found[::2], found[1::2], strict=True)
        data = [_shown(msgspec.json.decode(stored), paid_at_us) for stored, paid_at_us in pairs if stored is not None]
        return answer(200, {"data": data, "total": len(data)})

    async def _list(self, query: Mapping[str, str]) -> httpx.Response:
        if query.get("status[eq]") != "success" or query.get("sortby") != "updated_at":
            return refusal(400, "The stub node lists what was paid, and that by the time of payment.")
        limit, offset = int(query.get("limit", "10")), int(query.get("offset", "0"))
        if limit < 1:
            return answer(200, [])
        found = await self._newest(keys=[PAID], args=[offset, offset + limit - 1, PAYMENT])
        pairs = zip(found[::2], found[1::2], strict=True)
        return answer(200, [_shown(msgspec.json.decode(stored), float(at)) for stored, at in pairs if stored])

    async def _signing_key(self) -> str:
        if self._node_key is None:
            # The first process makes the key. All others read the stored one.
            made = secrets.token_hex(32)
            await self._redis.set(NODE_KEY, made, nx=True)
            self._node_key = text(await self._redis.get(NODE_KEY) or made)
        return self._node_key


def _shown(payment: dict[str, Any], paid_at_us: float | None) -> dict[str, Any]:
    """Return the payment as it is shown outside: with its state, and without the preimage while it is unpaid."""
    if paid_at_us is None:
        return {**payment, "status": "pending", "preimage": None, "updated_at": payment["created_at"]}
    return {**payment, "status": "success", "updated_at": rfc3339(int(paid_at_us) // 1_000_000)}

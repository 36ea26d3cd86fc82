"""World of a real LNbits: wallets of its own pay and are paid, within it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.lnbits.hints import websocket_hints
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.payouts import PayoutTarget
from tests.helpers.fakes import FakeBindings
from tests.lightning.world import FUNDS_SATS, Fate, Tells
from tests.lightning.worlds.lnbits_calls import BrokenNetwork
from tests.lnbits.server import Lnbits

# LNbits takes longer than a stand-in on a machine that is busy.
_TIMEOUT_S = 5.0


class LnbitsWorld:
    """A wallet of its own at a real LNbits, and a customer's wallet there."""

    name = "lnbits"
    tells = frozenset({Tells.OWN_INVOICE, Tells.HINTS, Tells.FORGED_HINTS, Tells.FEES})
    fates = frozenset({Fate.PAID, Fate.ANSWER_LOST, Fate.NOT_RECEIVED, Fate.SLOW_THEN_PAID})

    def __init__(self, lnbits: Lnbits) -> None:
        self.bindings = FakeBindings()
        self._lnbits = lnbits
        self._wallet, self._customer = lnbits.new_wallet(), lnbits.new_wallet()
        self._raw = httpx.AsyncClient(base_url=lnbits.url, trust_env=False, timeout=30)
        self._network = BrokenNetwork(httpx.AsyncHTTPTransport())
        self._is_muted = False
        self.lightning = LnbitsLightning(
            lnbits.url,
            self._wallet.invoice_key,
            admin_key=self._wallet.admin_key,
            timeout_s=_TIMEOUT_S,
            concurrency=4,
            transport=self._network,
            hints=self._hints,
        )

    async def fund(self) -> None:
        """Have the payer fill the wallet, by an invoice that is not ours."""
        target = await self._invoice(self._wallet.invoice_key, FUNDS_SATS)
        await self._pay(self._lnbits.payer.admin_key, target.payment_request)

    async def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """Pay the exact amount: within LNbits there is no other."""
        assert amount_msat is None
        headers = {"X-Api-Key": self._wallet.invoice_key}
        shown = (await self._raw.get(f"/api/v1/payments/{payment_hash}", headers=headers)).raise_for_status().json()
        await self._pay(self._lnbits.payer.admin_key, shown["details"]["bolt11"])

    async def foreign_invoice(self, amount_sats: int) -> PayoutTarget:
        """Return an invoice of a customer's."""
        return await self._invoice(self._customer.invoice_key, amount_sats)

    def next_payment(self, fate: Fate) -> None:
        """See `World`."""
        self._network.fates.append(fate)

    async def end_payment(self, payment_hash: str, *, paid: bool, fee_msat: int = 0) -> None:
        """Raise: within LNbits payments end at once."""
        raise AssertionError("within LNbits payments end at once")

    def orders(self, payment_hash: str) -> int:
        """See `World`."""
        return self._network.orders[payment_hash]

    async def stop(self) -> None:
        """Kill LNbits."""
        self._lnbits.process.kill()

    async def start(self) -> None:
        """Start LNbits over the same data. Not in a thread: the process would end with it."""
        self._lnbits.process.start()

    def slow(self, seconds: float) -> None:
        """See `World`."""
        self._network.slow_s = seconds

    def rubbish(self, *, on: bool) -> None:
        """See `World`."""
        self._network.is_rubbish = on

    async def push(self, payment_hash: str) -> None:
        """See `World`: anyone may push at LNbits who knows the invoice key."""
        text = f'{{"payment": {{"payment_hash": "{payment_hash}", "amount": 21000, "status": "success"}}}}'
        answer = await self._raw.post(f"/api/v1/ws/{self._wallet.invoice_key}", params={"data": text})
        answer.raise_for_status()

    def mute_hints(self) -> None:
        """See `World`."""
        self._is_muted = True

    async def expire(self, payment_hash: str) -> None:
        """Set the invoice's time in LNbits's database to the past."""
        with sqlite3.connect(self._lnbits.process.database, timeout=30) as database:
            query = "UPDATE apipayments SET expiry = ? WHERE payment_hash = ?"
            database.execute(query, (time.time() - 3_600, payment_hash))

    async def close(self) -> None:
        """See `World`. The LNbits goes on for the next test."""
        await self.lightning.close()
        await self._raw.aclose()

    async def _hints(self) -> AsyncIterator[str]:
        url, key = self._lnbits.url, self._wallet.invoice_key
        async for payment_hash in websocket_hints(url, key, open_timeout_s=_TIMEOUT_S):
            if not self._is_muted:
                yield payment_hash

    async def _invoice(self, invoice_key: str, amount_sats: int) -> PayoutTarget:
        body = {"out": False, "amount": amount_sats, "unit": "sat", "memo": "a customer's"}
        answer = await self._raw.post("/api/v1/payments", json=body, headers={"X-Api-Key": invoice_key})
        read = read_invoice(answer.raise_for_status().json()["bolt11"])
        return PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)

    async def _pay(self, admin_key: str, payment_request: str) -> None:
        body = {"out": True, "bolt11": payment_request}
        paid = (
            await self._raw.post("/api/v1/payments", json=body, headers={"X-Api-Key": admin_key})
        ).raise_for_status()
        assert paid.json()["status"] == "success"


@asynccontextmanager
async def lnbits_world(lnbits: Lnbits) -> AsyncIterator[LnbitsWorld]:
    """Yield the world of a real LNbits."""
    world = LnbitsWorld(lnbits)
    try:
        await world.fund()
        yield world
    finally:
        await world.close()

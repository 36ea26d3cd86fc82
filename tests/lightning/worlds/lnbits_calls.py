"""Calls to LNbits with a network between that a test breaks: for a real LNbits and for the stub node alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import httpx
import msgspec

from satmeter.actors.domain.payments.bolt11 import read_invoice
from tests.lightning.world import Fate


@dataclass
class BrokenNetwork(httpx.AsyncBaseTransport):
    """Transport over another one. `is_away`: nothing is answered. `slow_s`: no answer comes before our time-out."""

    inner: httpx.AsyncBaseTransport
    is_away: bool = False
    slow_s: float = 0
    is_rubbish: bool = False
    orders: Counter[str] = field(default_factory=Counter)
    fates: list[Fate] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on, as far as the faults let it. Raises `httpx.TransportError`."""
        if self.is_away:
            raise httpx.ConnectError("away")
        if self.is_rubbish:
            return httpx.Response(200, text='<html>"detail": [{', request=request)
        if self.slow_s:
            await _for_ever()
        payment_hash = await _ordered(request)
        if payment_hash is None:
            return await self.inner.handle_async_request(request)
        return await self._order(request, payment_hash)

    async def _order(self, request: httpx.Request, payment_hash: str) -> httpx.Response:
        fate = self.fates.pop(0) if self.fates else Fate.PAID
        if fate is Fate.NOT_RECEIVED:
            raise httpx.WriteError("cut before it was read")
        response = await self.inner.handle_async_request(request)
        self.orders[payment_hash] += 1
        if fate is Fate.ANSWER_LOST:
            await response.aread()
            raise httpx.ReadError("cut before the answer")
        if fate is Fate.SLOW_THEN_PAID:
            await response.aread()
            await _for_ever()
        return response

    async def aclose(self) -> None:
        """End connections."""
        await self.inner.aclose()


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _ordered(request: httpx.Request) -> str | None:
    """Return the payment hash of an order to pay; None for all other requests."""
    if request.method != "POST" or request.url.path != "/api/v1/payments":
        return None
    body = msgspec.json.decode(await request.aread())
    if not body.get("out"):
        return None
    try:
        return read_invoice(body["bolt11"]).payment_hash
    except ValueError:
        return "unreadable"

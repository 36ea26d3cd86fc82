"""World of the stub node, whose client is LNbits's over a transport that needs no network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from satmeter.actors.adapters.lnbits.client import LnbitsLightning
from satmeter.actors.adapters.stub.node import KEY, URL, StubNode
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.ports import InvoiceOrder, TransientError
from tests.helpers.fakes import FakeBindings
from tests.lightning.world import FUNDS_SATS, TIMEOUT_S, Fate, Tells
from tests.lightning.worlds.lnbits_calls import BrokenNetwork


class StubWorld:
    """The stub node in a store of its own."""

    name = "stub"
    tells = frozenset({Tells.OWN_INVOICE, Tells.HINTS, Tells.FORGED_HINTS, Tells.FEES})
    fates = frozenset({Fate.PAID, Fate.ANSWER_LOST, Fate.NOT_RECEIVED, Fate.SLOW_THEN_PAID})

    def __init__(self, redis: Redis) -> None:
        self.bindings = FakeBindings()
        self._redis = redis
        self._stub = StubNode(redis)
        self._network = BrokenNetwork(self._stub)
        self._is_muted = False
        self.lightning = LnbitsLightning(
            URL,
            KEY,
            admin_key=KEY,
            timeout_s=TIMEOUT_S,
            concurrency=4,
            transport=self._network,
            hints=self._hints,
        )

    async def fund(self) -> None:
        """Have the network fill the wallet."""
        funding = await self.lightning.create_invoice(InvoiceOrder(FUNDS_SATS, "funds", 600, "none"))
        await self._stub.pay(funding.payment_hash)
        # Our own list must begin empty.
        await self._redis.delete("satmeter:{stub}:paid")

    async def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """Pay the exact amount: the stub knows no other."""
        assert amount_msat is None
        assert await self._stub.pay(payment_hash) is not None

    async def foreign_invoice(self, amount_sats: int) -> PayoutTarget:
        """Return an invoice of a customer's."""
        read = read_invoice((await self._stub.invoice(amount_sats)).payment_request)
        return PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)

    def next_payment(self, fate: Fate) -> None:
        """See `World`."""
        self._network.fates.append(fate)

    async def end_payment(self, payment_hash: str, *, paid: bool, fee_msat: int = 0) -> None:
        """Raise: the stub pays at once."""
        raise AssertionError("the stub pays at once")

    def orders(self, payment_hash: str) -> int:
        """See `World`."""
        return self._network.orders[payment_hash]

    async def stop(self) -> None:
        """See `World`."""
        self._network.is_away = True

    async def start(self) -> None:
        """See `World`."""
        self._network.is_away = False

    def slow(self, seconds: float) -> None:
        """See `World`."""
        self._network.slow_s = seconds

    def rubbish(self, *, on: bool) -> None:
        """See `World`."""
        self._network.is_rubbish = on

    async def push(self, payment_hash: str) -> None:
        """See `World`."""
        await self._redis.publish("satmeter:{stub}:hints", payment_hash)

    def mute_hints(self) -> None:
        """See `World`."""
        self._is_muted = True

    async def expire(self, payment_hash: str) -> None:
        """Drop the invoice, as the store does when it lapses."""
        await self._redis.delete(f"satmeter:{{stub}}:payment:{payment_hash}")

    async def close(self) -> None:
        """See `World`."""
        await self.lightning.close()

    async def _hints(self) -> AsyncIterator[str]:
        async for payment_hash in self._stub.hints():
            if self._network.is_away:
                raise TransientError("away")
            if not self._is_muted:
                yield payment_hash


@asynccontextmanager
async def stub_world(redis: Redis) -> AsyncIterator[StubWorld]:
    """Yield the world of a stub node."""
    world = StubWorld(redis)
    try:
        await world.fund()
        yield world
    finally:
        await world.close()

"""World of a phoenixd, as a stand-in with a channel of two million sats."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from satmeter.actors.adapters.phoenixd.client import PhoenixdLightning
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.ports import PayoutOwners
from tests.helpers.fakes import FakeBindings
from tests.helpers.payout_owners import owned
from tests.lightning.stand_ins.phoenixd.app import Phoenixd
from tests.lightning.stand_ins.phoenixd.books import Books
from tests.lightning.stand_ins.phoenixd.faults import Faults
from tests.lightning.stand_ins.phoenixd.server import PhoenixdServer
from tests.lightning.world import FUNDS_SATS, TIMEOUT_S, Fate, Tells

_INBOUND_SATS = 2_000_000


class PhoenixdWorld:
    """A phoenixd of its own. The amounts that it tells are whole sats."""

    name = "phoenixd"
    tells = frozenset({Tells.OWN_INVOICE, Tells.HINTS, Tells.FEES})
    fates = frozenset(Fate)

    def __init__(self, owners: PayoutOwners) -> None:
        self.bindings = FakeBindings()
        password, self.limited_password = secrets.token_hex(16), secrets.token_hex(16)
        self.books = Books(lambda: time.time_ns() // 1_000_000, balance_sats=FUNDS_SATS, inbound_sats=_INBOUND_SATS)
        self.faults = Faults(late_s=TIMEOUT_S * 1.5)
        self.node = Phoenixd(self.books, self.faults, password=password, limited_password=self.limited_password)
        self.server = PhoenixdServer(self.node)
        self.bare = self.client(password)
        self.lightning = owned(self.bare, owners, self.bindings)

    def client(self, password: str) -> PhoenixdLightning:
        """Return a client of ours without the record of whose the payments are."""
        return PhoenixdLightning(self.server.url, password, timeout_s=TIMEOUT_S, concurrency=8)

    async def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """See `World`. The node takes up to double of the amount, and no less than it."""
        assert self.node.receive(payment_hash, amount_msat)

    async def foreign_invoice(self, amount_sats: int) -> PayoutTarget:
        """See `World`."""
        read = read_invoice(self.books.foreign_invoice(amount_sats * 1_000))
        return PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)

    def next_payment(self, fate: Fate) -> None:
        """See `World`."""
        self.faults.fates.append(fate)

    async def end_payment(self, payment_hash: str, *, paid: bool, fee_msat: int = 0) -> None:
        """See `World`. The fee is that of the list."""
        self.node.end_payment(payment_hash, paid=paid)

    def orders(self, payment_hash: str) -> int:
        """See `World`."""
        return self.faults.orders[payment_hash]

    async def stop(self) -> None:
        """See `World`."""
        await self.server.stop()

    async def start(self) -> None:
        """See `World`."""
        await self.server.start()

    def slow(self, seconds: float) -> None:
        """See `World`."""
        self.faults.slow_s = seconds

    def rubbish(self, *, on: bool) -> None:
        """See `World`."""
        self.faults.is_rubbish = on

    async def push(self, payment_hash: str) -> None:
        """See `World`. No stranger can push here; a node that lies can."""
        self.node.push(payment_hash, 21)

    def mute_hints(self) -> None:
        """See `World`."""
        self.faults.is_muted = True

    async def expire(self, payment_hash: str) -> None:
        """See `World`."""
        self.books.incoming[payment_hash].expires_at = self.books.now_ms() - 1

    async def close(self) -> None:
        """See `World`."""
        await self.lightning.close()
        await self.server.stop()


@asynccontextmanager
async def phoenixd_world(owners: PayoutOwners) -> AsyncIterator[PhoenixdWorld]:
    """Yield the world of a phoenixd."""
    world = PhoenixdWorld(owners)
    await world.start()
    try:
        yield world
    finally:
        await world.close()

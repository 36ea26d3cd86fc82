"""World of LND: our client over TLS to the stand-in for LND, whose certificate is pinned."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from satmeter.actors.adapters.lnd.client import LndLightning
from satmeter.actors.adapters.lnd.tls import trust
from satmeter.actors.domain.payments.bolt11 import read_invoice
from satmeter.actors.domain.payments.payouts import PayoutTarget
from tests.helpers.fakes import FakeBindings
from tests.helpers.http.certificates import contexts
from tests.helpers.payout_owners import OwnersInMemory, owned
from tests.lightning.keys import KeyInMemory
from tests.lightning.stand_ins.lnd.node import LndNode
from tests.lightning.stand_ins.lnd.server import LndServer
from tests.lightning.world import FUNDS_SATS, TIMEOUT_S, Fate, Tells


class LndWorld:
    """The stand-in for LND. Nobody without its macaroon can push a hint, and it does not pay itself."""

    name = "lnd"
    tells = frozenset({Tells.OVERPAID, Tells.HINTS, Tells.FEES})
    fates = frozenset(Fate)

    def __init__(self, folder: Path) -> None:
        self.bindings = FakeBindings()
        server_tls, _ = contexts(folder)
        self.node = LndNode(local_msat=FUNDS_SATS * 1_000)
        self.server = LndServer(self.node, tls=server_tls, slow_then_s=1.5 * TIMEOUT_S)
        self._cert_file = folder / "cert.pem"

    async def open(self) -> None:
        """Start the node, and our client for it with a macaroon that has just the rights it needs."""
        await self.server.start()
        self.client = LndLightning(
            self.server.url,
            self.server.macaroon(),
            KeyInMemory(),
            verify=trust(self._cert_file),
            timeout_s=TIMEOUT_S,
            concurrency=4,
        )
        self.lightning = owned(self.client, OwnersInMemory(), self.bindings)

    async def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """See `World`."""
        assert self.node.receive(payment_hash, amount_msat)

    async def foreign_invoice(self, amount_sats: int) -> PayoutTarget:
        """See `World`."""
        read = self.node.foreign_invoice(amount_sats * 1_000)
        return PayoutTarget(read.payment_request, read.payment_hash, read.amount_msat)

    def next_payment(self, fate: Fate) -> None:
        """See `World`."""
        self.server.fates.append(fate)

    async def end_payment(self, payment_hash: str, *, paid: bool, fee_msat: int = 0) -> None:
        """See `World`."""
        self.node.end(payment_hash, is_paid=paid, fee_msat=fee_msat)

    def orders(self, payment_hash: str) -> int:
        """See `World`."""
        return sum(_hash_of(order["payment_request"]) == payment_hash for order in self.node.orders)

    async def stop(self) -> None:
        """See `World`."""
        await self.server.stop()

    async def start(self) -> None:
        """See `World`."""
        await self.server.start()

    def slow(self, seconds: float) -> None:
        """See `World`."""
        self.server.slow_s = seconds

    def rubbish(self, *, on: bool) -> None:
        """See `World`."""
        self.server.is_rubbish = on

    async def push(self, payment_hash: str) -> None:
        """Raise: the stream is the node's alone."""
        raise AssertionError("the stream is the node's alone")

    def mute_hints(self) -> None:
        """See `World`."""
        self.node.is_muted = True

    async def expire(self, payment_hash: str) -> None:
        """Let the invoice's time be over; LND cancels it then."""
        self.node.invoices[payment_hash].expiry_s = 0

    async def close(self) -> None:
        """See `World`."""
        await self.lightning.close()
        await self.server.close()


@asynccontextmanager
async def lnd_world() -> AsyncIterator[LndWorld]:
    """Yield the world of a stand-in for LND."""
    with tempfile.TemporaryDirectory(prefix="sm-lnd-") as folder:
        world = LndWorld(Path(folder))
        await world.open()
        try:
            yield world
        finally:
            await world.close()


def _hash_of(payment_request: str) -> str | None:
    try:
        return read_invoice(payment_request).payment_hash
    except ValueError:
        return None

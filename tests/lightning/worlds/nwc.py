"""World of a wallet that speaks Nostr Wallet Connect: the stand-in, over a real relay, with a cable that can be cut."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from satmeter.actors.adapters.nwc.client import NwcLightning
from satmeter.actors.domain.payments.payouts import PayoutTarget
from satmeter.actors.ports import PayoutOwners
from tests.helpers.fakes import FakeBindings
from tests.helpers.payout_owners import owned
from tests.lightning.stand_ins.nwc import books
from tests.lightning.stand_ins.nwc.cable import Cable
from tests.lightning.stand_ins.nwc.relay import RelayProcess
from tests.lightning.stand_ins.nwc.wallet import NwcWallet
from tests.lightning.world import TIMEOUT_S, Fate, Tells


class NwcWorld:
    """A wallet of its own at a relay that others use, too."""

    name = "nwc"
    tells = frozenset(Tells) - {Tells.FORGED_HINTS}
    fates = frozenset(Fate)

    def __init__(self, wallet: NwcWallet, cable: Cable, owners: PayoutOwners) -> None:
        self.bindings = FakeBindings()
        self.wallet = wallet
        self.cable = cable
        self.bare = NwcLightning(wallet.url(cable.url), timeout_s=TIMEOUT_S, concurrency=8, settles_s=0, rest_s=0)
        self.lightning = owned(self.bare, owners, self.bindings)

    async def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        await self.wallet.receive(payment_hash, amount_msat)

    async def foreign_invoice(self, amount_sats: int) -> PayoutTarget:
        return books.foreign_invoice(amount_sats, int(time.time()))

    def next_payment(self, fate: Fate) -> None:
        self.wallet.books.fates.append(fate)

    async def end_payment(self, payment_hash: str, *, paid: bool, fee_msat: int = 0) -> None:
        row = self.wallet.books.payment(payment_hash)
        assert row is not None
        self.wallet.books.end(row, paid=paid, fee_msat=fee_msat)

    def orders(self, payment_hash: str) -> int:
        return self.wallet.books.orders[payment_hash]

    async def stop(self) -> None:
        await self.cable.unplug()
        await self.wallet.stop()

    async def start(self) -> None:
        await self.wallet.start()
        await self.cable.plug()

    def slow(self, seconds: float) -> None:
        self.wallet.manners.slow_s = seconds

    def rubbish(self, *, on: bool) -> None:
        self.wallet.manners.is_rubbish = on

    async def push(self, payment_hash: str) -> None:
        """Raise: only the wallet's own key signs notifications that count."""
        raise AssertionError("only the wallet's own key signs notifications")

    def mute_hints(self) -> None:
        self.wallet.manners.pushes = False

    async def expire(self, payment_hash: str) -> None:
        self.wallet.books.expire(payment_hash)

    async def close(self) -> None:
        await self.lightning.close()
        await self.stop()


@asynccontextmanager
async def nwc_world(relay: RelayProcess, owners: PayoutOwners) -> AsyncIterator[NwcWorld]:
    """Yield the world of a stand-in wallet at this relay."""
    cable = Cable(relay.url)
    wallet = NwcWallet((relay.url,), cut=cable.cut)
    await wallet.start()
    await cable.plug()
    world = NwcWorld(wallet, cable, owners)
    try:
        yield world
    finally:
        await world.close()

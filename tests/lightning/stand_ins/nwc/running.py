"""A stand-in wallet at a relay of its own, on a thread of its own: for tests that have no loop to spare.

As a program it serves a wallet until its standard input ends. A line on it is a command, and gets a line of JSON:
`pay HASH` has the network pay an invoice of the wallet's, `invoice SATS` makes one of another node, `fate NAME` decides
about the next payment that is ordered, `requests` counts what came, `books` shows all. The first line that it prints
has the connection URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import asdict
from typing import Any, TypeVar

from satmeter.actors.domain.payments.payouts import PayoutTarget
from tests.helpers.patience import PATIENCE_S
from tests.lightning.stand_ins.nwc.books import foreign_invoice
from tests.lightning.stand_ins.nwc.relay import RelayProcess, running_relay
from tests.lightning.stand_ins.nwc.wallet import Manners, NwcWallet
from tests.lightning.world import Fate

T = TypeVar("T")


class RunningWallet:
    """A wallet that answers from its own thread. `url` is the connection for a client."""

    def __init__(self, relay: RelayProcess, manners: Manners) -> None:
        self.relay = relay
        self.wallet = NwcWallet((relay.url,), manners=manners)
        self.url = self.wallet.url()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self.wallet.start())

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def pay(self, payment_hash: str, amount_msat: int | None = None) -> None:
        """The network pays an invoice of the wallet's, in full or with another amount."""
        self.call(self.wallet.receive(payment_hash, amount_msat))

    def invoice(self, amount_sats: int) -> PayoutTarget:
        """An invoice of another node."""
        return foreign_invoice(amount_sats, int(time.time()))

    def next_payment(self, fate: Fate) -> None:
        self.wallet.books.fates.append(fate)

    def stop(self) -> None:
        self.call(self.wallet.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


@contextlib.contextmanager
def running_wallet(**manners: Any) -> Iterator[RunningWallet]:
    with running_relay() as relay:
        wallet = RunningWallet(relay, Manners(**manners))
        try:
            yield wallet
        finally:
            wallet.stop()


def _command(wallet: RunningWallet, words: list[str]) -> dict[str, Any]:
    match words:
        case ["pay", payment_hash]:
            wallet.pay(payment_hash)
        case ["invoice", sats]:
            target = wallet.invoice(int(sats))
            return {"invoice": target.payment_request, "payment_hash": target.payment_hash}
        case ["fate", name]:
            wallet.next_payment(Fate[name])
        case ["requests"]:
            return {"count": len(wallet.wallet.requests)}
        case ["books"]:
            return {"rows": [asdict(row) for row in wallet.wallet.books.rows]}
        case _:
            return {"error": "unknown"}
    return {"balance_msat": wallet.wallet.books.balance_msat}


if __name__ == "__main__":
    with running_wallet() as served:
        sys.stdout.write(f"{json.dumps({'url': served.url})}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            sys.stdout.write(f"{json.dumps(_command(served, line.split()))}\n")
            sys.stdout.flush()

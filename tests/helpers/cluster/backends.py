"""Lightning nodes that a real server runs on: stand-ins in threads and processes of their own."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.helpers.patience import PATIENCE_S
from tests.lightning.stand_ins.lnd.thread import lnd_thread
from tests.lightning.stand_ins.nwc import books
from tests.lightning.stand_ins.nwc.relay import running_relay
from tests.lightning.stand_ins.nwc.wallet import NwcWallet
from tests.lightning.stand_ins.phoenixd.server import running_phoenixd
from tests.lightning.world import Fate

T = TypeVar("T")
_FUNDS_SATS = 50_000


@dataclass(frozen=True)
class Node:
    """A node, the settings of a server on it, and the network around it.

    `secret` is the key that spends. `pays` has the network pay an invoice of the server's; `wants` makes an invoice of
    a client's wallet; `next_payment` decides what becomes of the server's next payment.
    """

    settings: Mapping[str, str]
    secret: str
    pays: Callable[[Mapping[str, Any]], object]
    wants: Callable[[int], str]
    next_payment: Callable[[Fate], object]


@contextmanager
def phoenixd_node() -> Iterator[Node]:
    with running_phoenixd(balance_sats=_FUNDS_SATS, inbound_sats=1_900_000) as node:
        yield Node(
            settings={"PHOENIXD_URL": node.url, "PHOENIXD_PASSWORD": node.password},
            secret=node.password,
            pays=lambda invoice: node.pay(invoice["paymentHash"]),
            wants=node.foreign_invoice,
            next_payment=lambda fate: node.next_payment(fate.name),
        )


@contextmanager
def lnd_node() -> Iterator[Node]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as folder,
        lnd_thread(Path(folder), local_msat=_FUNDS_SATS * 1_000) as lnd,
    ):
        macaroon = lnd.server.macaroon()
        file = Path(folder) / "satmeter.macaroon"
        file.write_bytes(macaroon)
        file.chmod(0o600)
        yield Node(
            settings={
                "LND_REST_URL": lnd.server.url,
                "LND_MACAROON_FILE": str(file),
                "LND_TLS_CERT_FILE": str(lnd.cert_file),
            },
            secret=macaroon.hex(),
            pays=lambda invoice: lnd.do(lambda node: node.receive(invoice["paymentHash"])),
            wants=lambda sats: lnd.do(lambda node: node.foreign_invoice(sats * 1_000)).payment_request,
            next_payment=lambda fate: lnd.do(lambda _: lnd.server.fates.append(fate)),
        )


@contextmanager
def nwc_node() -> Iterator[Node]:
    with running_relay() as relay, _loop_in_a_thread() as run:
        wallet = NwcWallet((relay.url,))
        run(wallet.start())
        try:
            yield Node(
                # By the rule of wallets, what a job leaves of its estimate is less than a route may cost.
                settings={"NWC_URL": wallet.url(), "SATMETER_ROUTING_BASE_SATS": "2"},
                secret=wallet.client.secret_key().to_hex(),
                pays=lambda invoice: run(wallet.receive(invoice["paymentHash"])),
                wants=lambda sats: books.foreign_invoice(sats, int(time.time())).payment_request,
                next_payment=wallet.books.fates.append,
            )
        finally:
            run(wallet.stop())


@contextmanager
def _loop_in_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()


NODES = {"phoenixd": phoenixd_node, "lnd": lnd_node, "nwc": nwc_node}

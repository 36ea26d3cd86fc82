"""Lightning nodes that a real server runs on: stand-ins in threads and processes of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.lightning.stand_ins.lnd.node import LndNode
from tests.lightning.stand_ins.lnd.thread import lnd_thread
from tests.lightning.stand_ins.nwc.running import RunningWallet, running_wallet
from tests.lightning.stand_ins.phoenixd.server import Running, running_phoenixd
from tests.lightning.world import Fate

_FUNDS_SATS = 50_000


class Pays(Protocol):
    """Payer of an invoice of the server's, with some sats more than it asks for."""

    def __call__(self, invoice: Mapping[str, Any], more_sats: int = 0) -> object: ...


@dataclass(frozen=True)
class Node:
    """A node, the settings of a server on it, and the network around it.

    `secret` is the key that spends. `wants` makes an invoice of a client's wallet; `next_payment` decides what becomes
    of the server's next payment. `strangers` has another program's invoice made, in the server's words and with this
    name in them, and has it paid.
    """

    settings: Mapping[str, str]
    secret: str
    pays: Pays
    wants: Callable[[int], str]
    next_payment: Callable[[Fate], object]
    strangers: Callable[[str], object]


@contextmanager
def phoenixd_node() -> Iterator[Node]:
    with running_phoenixd(balance_sats=_FUNDS_SATS, inbound_sats=1_900_000) as node:
        yield Node(
            settings={"PHOENIXD_URL": node.url, "PHOENIXD_PASSWORD": node.password},
            secret=node.password,
            pays=lambda invoice, more_sats=0: node.pay(invoice["paymentHash"], _amount(invoice, more_sats)),
            wants=node.foreign_invoice,
            next_payment=lambda fate: node.next_payment(fate.name),
            strangers=lambda name: node.pay(_at_phoenixd(node, name)),
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
            pays=lambda invoice, more_sats=0: lnd.do(
                lambda node: node.receive(invoice["paymentHash"], _amount(invoice, more_sats))
            ),
            wants=lambda sats: lnd.do(lambda node: node.foreign_invoice(sats * 1_000)).payment_request,
            next_payment=lambda fate: lnd.do(lambda _: lnd.server.fates.append(fate)),
            strangers=lambda name: lnd.do(lambda node: node.receive(_at_lnd(node, name))),
        )


@contextmanager
def nwc_node() -> Iterator[Node]:
    with running_wallet() as wallet:
        yield Node(
            settings={"NWC_URL": wallet.url},
            secret=parse_qs(urlsplit(wallet.url).query)["secret"][0],
            pays=lambda invoice, more_sats=0: wallet.pay(invoice["paymentHash"], _amount(invoice, more_sats)),
            wants=lambda sats: wallet.invoice(sats).payment_request,
            next_payment=wallet.next_payment,
            strangers=lambda name: wallet.pay(_at_wallet(wallet, name)),
        )


def _at_phoenixd(node: Running, name: str) -> str:
    form = {"description": _words(name), "amountSat": "7", "externalId": f"satmeter:{name}"}
    made = httpx.post(f"{node.url}/createinvoice", data=form, auth=("", node.password), trust_env=False)
    return str(made.raise_for_status().json()["paymentHash"])


def _at_lnd(node: LndNode, name: str) -> str:
    return node.add_invoice({"memo": _words(name), "value": "7"}).payment_hash


def _at_wallet(wallet: RunningWallet, name: str) -> str:
    return wallet.wallet.books.make_invoice(7_000, _words(name), None).payment_hash


def _words(name: str) -> str:
    return f"Satmeter: deposit ({name})"


def _amount(invoice: Mapping[str, Any], more_sats: int) -> int | None:
    return (invoice["amountSats"] + more_sats) * 1_000 if more_sats else None


NODES = {"phoenixd": phoenixd_node, "lnd": lnd_node, "nwc": nwc_node}

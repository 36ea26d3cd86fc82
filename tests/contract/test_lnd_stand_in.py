"""The stand-in for LND, proven by a client that is not ours: LNbits's own, with its LND as the node behind LNbits."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from satmeter.actors.domain.payments.bolt11 import read_invoice
from tests.helpers.patience import PATIENCE_S
from tests.lightning.stand_ins.lnd.node import ROUTE_FEE_MSAT
from tests.lightning.stand_ins.lnd.thread import LndThread, lnd_thread
from tests.lightning.world import FUNDS_SATS, Fate
from tests.lnbits.install import InstallError
from tests.lnbits.server import Lnbits, Wallet, running_lnbits


class Scene(NamedTuple):
    """An LNbits whose node is the stand-in."""

    lnd: LndThread
    lnbits: Lnbits
    http: httpx.Client

    def call(self, wallet: Wallet, method: str, path: str, **body: Any) -> httpx.Response:
        headers = {"X-Api-Key": wallet.admin_key}
        return self.http.request(method, f"/api/v1/{path}", headers=headers, json=body or None)

    def balance_msat(self, wallet: Wallet) -> int:
        return int(self.call(wallet, "GET", "wallet").json()["balance"])

    def payment(self, wallet: Wallet, payment_hash: str) -> dict[str, Any]:
        query = f"payments/paginated?payment_hash[eq]={payment_hash}&recheck_pending=true"
        rows = self.call(wallet, "GET", query).json()["data"]
        return dict(rows[0]) if rows else {}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-lnd-") as folder,
        lnd_thread(Path(folder), local_msat=FUNDS_SATS * 1_000) as lnd,
    ):
        node = {
            "LNBITS_BACKEND_WALLET_CLASS": "LndRestWallet",
            "LND_REST_ENDPOINT": lnd.server.url,
            "LND_REST_CERT": str(lnd.cert_file),
            "LND_REST_MACAROON": lnd.server.macaroon().hex(),
        }
        try:
            with (
                running_lnbits(node) as lnbits,
                httpx.Client(base_url=lnbits.url, timeout=PATIENCE_S, trust_env=False) as http,
            ):
                yield Scene(lnd, lnbits, http)
        except InstallError as error:
            pytest.fail(str(error), pytrace=False)


def test_lnbits_receives_by_the_stream_of_the_stand_in(scene: Scene) -> None:
    payee, before_msat = scene.lnbits.payee, scene.balance_msat(scene.lnbits.payee)
    made = scene.call(payee, "POST", "payments", out=False, unit="sat", amount=77, memo="coffee", expiry=600).json()
    assert read_invoice(made["bolt11"]).amount_msat.value == 77_000
    assert not scene.call(payee, "GET", f"payments/{made['payment_hash']}").json()["paid"]
    _until(lambda: bool(scene.lnd.do(lambda node: node.listeners)))
    assert scene.lnd.do(lambda node: node.receive(made["payment_hash"]))
    _until(lambda: scene.balance_msat(payee) == before_msat + 77_000)


def test_an_invoice_has_the_hash_of_a_description_where_that_is_ordered(scene: Scene) -> None:
    body = {"out": False, "unit": "sat", "amount": 77, "unhashed_description": b"[]".hex()}
    made = scene.call(scene.lnbits.payee, "POST", "payments", **body).json()
    assert read_invoice(made["bolt11"]).description_hash == hashlib.sha256(b"[]").hexdigest()


def test_lnbits_pays_with_the_fee_of_the_route(scene: Scene) -> None:
    payer, before_msat = scene.lnbits.payer, scene.balance_msat(scene.lnbits.payer)
    target = scene.lnd.do(lambda node: node.foreign_invoice(250_000))
    paid = scene.call(payer, "POST", "payments", out=True, bolt11=target.payment_request)
    assert paid.json()["status"] == "success", paid.text
    assert paid.json()["preimage"] == scene.lnd.do(lambda node: node.preimage_of(target.payment_hash)).hex()
    assert scene.balance_msat(payer) == before_msat - 250_000 - ROUTE_FEE_MSAT


def test_lnbits_takes_a_failure_for_one(scene: Scene) -> None:
    payer, before_msat = scene.lnbits.payer, scene.balance_msat(scene.lnbits.payer)
    target = scene.lnd.do(lambda node: node.foreign_invoice(250_000))
    scene.lnd.server.fates.append(Fate.FAILED)
    refused = scene.call(payer, "POST", "payments", out=True, bolt11=target.payment_request)
    assert refused.status_code == 520
    assert "FAILURE_REASON_TIMEOUT" in refused.json()["detail"]
    assert scene.payment(payer, target.payment_hash)["status"] == "failed"
    assert scene.balance_msat(payer) == before_msat


def test_lnbits_tracks_a_payment_whose_answer_was_lost(scene: Scene) -> None:
    payer = scene.lnbits.payer
    target = scene.lnd.do(lambda node: node.foreign_invoice(250_000))
    scene.lnd.server.fates.append(Fate.ANSWER_LOST)
    scene.call(payer, "POST", "payments", out=True, bolt11=target.payment_request)
    _until(lambda: scene.payment(payer, target.payment_hash)["status"] == "success")
    assert sum(order["payment_request"] == target.payment_request for order in scene.lnd.server.node.orders) == 1


def _until(is_there: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_there():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.05)

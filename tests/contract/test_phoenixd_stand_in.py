"""Proof of the stand-in for phoenixd: LNbits's own client of phoenixd receives and pays through it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from satmeter.actors.domain.payments.bolt11 import read_invoice
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import patiently
from tests.lightning.stand_ins.phoenixd.server import Running, running_phoenixd
from tests.lnbits.calls import LnbitsCalls
from tests.lnbits.install import InstallError
from tests.lnbits.server import running_lnbits


@dataclass(frozen=True)
class Scene(LnbitsCalls):
    """An LNbits whose node is the stand-in, and the stand-in with the network around it."""

    node: Running


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with running_phoenixd(balance_sats=100_000, inbound_sats=2_000_000) as node:
        variables = {
            "LNBITS_BACKEND_WALLET_CLASS": "PhoenixdWallet",
            "PHOENIXD_API_ENDPOINT": node.url,
            "PHOENIXD_API_PASSWORD": node.password,
        }
        try:
            with (
                running_lnbits(variables) as lnbits,
                httpx.Client(base_url=lnbits.url, timeout=PATIENCE_S, trust_env=False) as http,
            ):
                yield Scene(lnbits, http, node)
        except InstallError as error:
            pytest.fail(str(error), pytrace=False)


def test_a_payment_from_the_network_arrives_at_lnbits_by_the_node_s_event(scene: Scene) -> None:
    payment_request = scene.invoice(1_234)
    invoice, key = read_invoice(payment_request), scene.lnbits.payee.invoice_key
    assert invoice.amount_msat.value == 1_234_000
    assert not scene.payment(key, invoice.payment_hash)["paid"]
    assert scene.node.pay(invoice.payment_hash)
    # The list is LNbits's own books: it asks no node, so that only the node's event can have changed it.
    patiently(lambda: scene.listed(key, invoice.payment_hash)["status"] == "success", "LNbits heard of no payment")
    assert not scene.node.pay(invoice.payment_hash), "an invoice is paid once"


def test_an_invoice_has_the_hash_of_a_description_where_that_is_ordered(scene: Scene) -> None:
    body = {"out": False, "unit": "sat", "amount": 77, "unhashed_description": b"[]".hex()}
    made = scene.call("POST", "/api/v1/payments", scene.lnbits.payee.invoice_key, body)
    assert read_invoice(made["bolt11"]).description_hash == hashlib.sha256(b"[]").hexdigest()


def test_lnbits_pays_another_node_and_knows_the_cost_and_the_proof(scene: Scene) -> None:
    payment_request, key = scene.node.foreign_invoice(2_000), scene.lnbits.payer.admin_key
    answer = scene.pay(payment_request)
    assert answer.status_code == 201, answer.text
    payment_hash = read_invoice(payment_request).payment_hash
    shown = scene.payment(key, payment_hash)
    assert shown["paid"]
    # 4 sats and 0.4 %, in an answer that is in whole sats.
    assert abs(shown["details"]["fee"]) == 12_000
    assert len(bytes.fromhex(shown["preimage"])) == 32


def test_lnbits_does_not_take_a_failed_payment_for_paid(scene: Scene) -> None:
    """LNbits's client of phoenixd leaves every failure open."""
    scene.node.next_payment("FAILED")
    payment_request, key = scene.node.foreign_invoice(300), scene.lnbits.payer.admin_key
    assert scene.pay(payment_request).json()["status"] == "pending"
    assert not scene.payment(key, read_invoice(payment_request).payment_hash)["paid"]


def test_lnbits_finds_by_the_hash_what_became_of_a_payment_whose_answer_was_lost(scene: Scene) -> None:
    scene.node.next_payment("ANSWER_LOST")
    payment_request, key = scene.node.foreign_invoice(300), scene.lnbits.payer.admin_key
    scene.pay(payment_request)
    payment_hash = read_invoice(payment_request).payment_hash
    patiently(lambda: scene.payment(key, payment_hash)["paid"], "LNbits did not ask the node")

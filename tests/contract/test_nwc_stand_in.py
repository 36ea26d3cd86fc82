"""Proof of the stand-in wallet: LNbits's own client of Nostr Wallet Connect receives and pays through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from satmeter.actors.domain.payments.bolt11 import read_invoice
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import patiently
from tests.lightning.stand_ins.nwc.running import RunningWallet, running_wallet
from tests.lightning.world import Fate
from tests.lnbits.calls import LnbitsCalls
from tests.lnbits.install import InstallError
from tests.lnbits.server import running_lnbits


@dataclass(frozen=True)
class Scene(LnbitsCalls):
    """An LNbits whose funding source is the stand-in, and the stand-in with the network around it."""

    wallet: RunningWallet


@pytest.fixture(scope="module", params=["nip44_v2", "nip04"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with running_wallet(encryptions=(request.param,)) as wallet:
        variables = {"LNBITS_BACKEND_WALLET_CLASS": "NWCWallet", "NWC_PAIRING_URL": wallet.url}
        try:
            with (
                running_lnbits(variables) as lnbits,
                httpx.Client(base_url=lnbits.url, timeout=PATIENCE_S, trust_env=False) as http,
            ):
                yield Scene(lnbits, http, wallet)
        except InstallError as error:
            pytest.fail(str(error), pytrace=False)


def test_a_payment_from_the_network_arrives_at_lnbits_by_the_wallet_s_notification(scene: Scene) -> None:
    payment_request = scene.invoice(1_234)
    invoice, key = read_invoice(payment_request), scene.lnbits.payee.invoice_key
    assert invoice.amount_msat.value == 1_234_000
    assert not scene.payment(key, invoice.payment_hash)["paid"]
    scene.wallet.pay(invoice.payment_hash)
    # The list is LNbits's own books: it asks nobody, so that only the notification can have changed it.
    patiently(lambda: scene.listed(key, invoice.payment_hash)["status"] == "success", "LNbits heard of no payment")


def test_lnbits_pays_another_node_and_knows_the_cost_and_the_proof(scene: Scene) -> None:
    target, key = scene.wallet.invoice(2_000), scene.lnbits.payer.admin_key
    answer = scene.pay(target.payment_request)
    assert answer.status_code == 201, answer.text
    shown = scene.payment(key, target.payment_hash)
    assert shown["paid"]
    assert abs(shown["details"]["fee"]) == 1_000
    assert len(bytes.fromhex(shown["preimage"])) == 32


def test_lnbits_does_not_take_a_failed_payment_for_paid(scene: Scene) -> None:
    scene.wallet.next_payment(Fate.FAILED)
    target, key = scene.wallet.invoice(300), scene.lnbits.payer.admin_key
    scene.pay(target.payment_request)
    assert not scene.payment(key, target.payment_hash)["paid"]


def test_lnbits_finds_by_the_hash_what_became_of_a_payment_whose_answer_was_lost(scene: Scene) -> None:
    scene.wallet.next_payment(Fate.ANSWER_LOST)
    target, key = scene.wallet.invoice(300), scene.lnbits.payer.admin_key
    scene.pay(target.payment_request)
    patiently(lambda: scene.payment(key, target.payment_hash)["paid"], "LNbits did not ask the wallet")

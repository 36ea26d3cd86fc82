"""A whole job with real Lightning invoices: `satmeter serve` on a real LNbits, paid from its other wallet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.jobs import create, wait_for
from tests.cluster.sessions import Client, check_ledger
from tests.lnbits.fixtures import LNBITS_TIMEOUT_S
from tests.lnbits.server import Lnbits
from tests.served import Served, served, wait_until

pytestmark = pytest.mark.timeout(LNBITS_TIMEOUT_S)


@pytest.fixture(scope="module")
def lnbits_server(lnbits: Lnbits) -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as directory,
        served(
            Path(directory) / "data",
            SATMETER_HOSTS="1",
            LNBITS_URL=lnbits.url,
            LNBITS_INVOICE_KEY=lnbits.payee.invoice_key,
            LNBITS_ADMIN_KEY=lnbits.payee.admin_key,
        ) as server,
    ):
        yield server


def wallet_pays(lnbits: Lnbits, invoice: dict[str, Any]) -> None:
    answer = httpx.post(
        f"{lnbits.url}/api/v1/payments",
        headers={"X-Api-Key": lnbits.payer.admin_key},
        json={"out": True, "bolt11": invoice["paymentRequest"]},
        timeout=20,
        trust_env=False,
    )
    assert answer.status_code == 201, answer.text


def test_a_whole_job_is_paid_from_a_wallet(lnbits: Lnbits, lnbits_server: Served) -> None:
    created = create(lnbits_server)
    wallet_pays(lnbits, created["evalInvoice"])
    waiting = wait_for(lnbits_server, created["jobId"], "awaiting_work_payment")
    wallet_pays(lnbits, waiting["workInvoice"])
    done = wait_for(lnbits_server, created["jobId"], "complete")
    assert done["result"]
    assert done["costLedger"]["paidMsat"] == waiting["workInvoice"]["amountSats"] * 1_000


def wallet_invoice(lnbits: Lnbits, amount_sats: int) -> str:
    """An invoice of the client's wallet."""
    answer = httpx.post(
        f"{lnbits.url}/api/v1/payments",
        headers={"X-Api-Key": lnbits.payer.admin_key},
        json={"out": False, "amount": amount_sats, "memo": "my rest"},
        timeout=20,
        trust_env=False,
    )
    invoice: str = answer.json()["bolt11"]
    return invoice


def wallet_msat(lnbits: Lnbits) -> int:
    """What is in the client's wallet."""
    answer = httpx.get(
        f"{lnbits.url}/api/v1/wallet", headers={"X-Api-Key": lnbits.payer.admin_key}, timeout=20, trust_env=False
    )
    return int(answer.json()["balance"])


def test_the_rest_of_a_session_comes_back_to_the_wallet_that_paid(lnbits: Lnbits, lnbits_server: Served) -> None:
    created = lnbits_server.client.post("/sessions", json={"amountSats": 1_000}).json()
    client = Client(lnbits_server, created["sessionId"], created["macaroon"])
    wallet_pays(lnbits, created["depositInvoice"])
    wait_until(lambda: client.show()["state"] == "active", 10, "the deposit did not arrive")
    client.ask()
    before_msat, invoice = wallet_msat(lnbits), wallet_invoice(lnbits, 900)
    too_much = client.post("close", {"paymentRequest": wallet_invoice(lnbits, 1_000)})
    assert too_much.status_code == 400 and client.show()["state"] == "active"
    closed = client.post("close", {"paymentRequest": invoice})
    assert closed.status_code == 200, closed.text
    assert closed.json()["refund"]["paidMsat"] == 900_000 and closed.json()["refund"]["state"] == "paid"
    assert wallet_msat(lnbits) == before_msat + 900_000
    assert client.post("close", {"paymentRequest": invoice}).json() == closed.json()
    assert wallet_msat(lnbits) == before_msat + 900_000
    check_ledger(client)
    client.close()


def test_what_a_job_owes_comes_back_to_the_wallet_that_paid(lnbits: Lnbits, lnbits_server: Served) -> None:
    created = create(lnbits_server)
    wallet_pays(lnbits, created["evalInvoice"])
    waiting = wait_for(lnbits_server, created["jobId"], "awaiting_work_payment")
    wallet_pays(lnbits, waiting["workInvoice"])
    owed_msat = wait_for(lnbits_server, created["jobId"], "complete")["refund"]["owedMsat"]
    before_msat, sats = wallet_msat(lnbits), owed_msat // 1_000 - 2
    body = {"paymentRequest": wallet_invoice(lnbits, sats)}
    refunded = lnbits_server.client.post(f"/jobs/{created['jobId']}/refund", json=body)
    assert refunded.status_code == 200, refunded.text
    assert refunded.json()["refund"] == {
        "owedMsat": owed_msat - sats * 1_000,
        "paidMsat": sats * 1_000,
        "state": "paid",
    }
    assert wallet_msat(lnbits) == before_msat + sats * 1_000


def test_a_forged_push_moves_nothing(lnbits: Lnbits, lnbits_server: Served) -> None:
    forged, honest = create(lnbits_server), create(lnbits_server)
    claim = {"payment": {"payment_hash": forged["evalInvoice"]["paymentHash"], "amount": 10_000, "status": "success"}}
    push = f"{lnbits.url}/api/v1/ws/{lnbits.payee.invoice_key}"
    httpx.post(push, params={"data": httpx.Request("POST", push, json=claim).content.decode()}, trust_env=False)
    # What was really paid after it has been seen: so the forged one has been, too.
    wallet_pays(lnbits, honest["evalInvoice"])
    wait_for(lnbits_server, honest["jobId"], "awaiting_work_payment")
    status = lnbits_server.client.get(f"/jobs/{forged['jobId']}").json()
    assert status["state"] == "awaiting_eval_payment"


def test_the_stubs_side_door_does_not_exist(lnbits_server: Served) -> None:
    created = create(lnbits_server)
    answer = lnbits_server.client.post(f"/dev/stub/pay/{created['evalInvoice']['paymentHash']}")
    assert answer.status_code == 404

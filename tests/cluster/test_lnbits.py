"""`satmeter serve` on a real LNbits, paid from another wallet there."""

from __future__ import annotations

import httpx

from tests.helpers.cluster.jobs import create, wait_for
from tests.helpers.cluster.sessions import check_ledger
from tests.helpers.cluster.wallets import opened, wallet_invoice, wallet_msat, wallet_pays
from tests.helpers.served import Served, patiently
from tests.lnbits.server import Lnbits, Wallet


def test_a_whole_job_is_paid_from_a_wallet(lnbits: Lnbits, lnbits_server: Served) -> None:
    created = create(lnbits_server)
    wallet_pays(lnbits, created["evalInvoice"])
    waiting = wait_for(lnbits_server, created["jobId"], "awaiting_work_payment")
    wallet_pays(lnbits, waiting["workInvoice"])
    done = wait_for(lnbits_server, created["jobId"], "complete")
    assert done["result"]
    assert done["costLedger"]["paidMsat"] == waiting["workInvoice"]["amountSats"] * 1_000


def test_the_rest_of_a_session_comes_back_to_the_wallet_that_paid(lnbits: Lnbits, lnbits_server: Served) -> None:
    client, deposit = opened(lnbits_server)
    wallet_pays(lnbits, deposit)
    patiently(lambda: client.show()["state"] == "active", "the deposit did not arrive")
    client.ask()
    before_msat, invoice = wallet_msat(lnbits), wallet_invoice(lnbits, 900)
    too_much = client.post("close", {"paymentRequest": wallet_invoice(lnbits, 1_000)})
    assert too_much.status_code == 400 and client.show()["state"] == "active"
    closed = client.refunded(invoice)
    assert closed.status_code == 200, closed.text
    refund = closed.json()["refund"]
    assert refund["paidMsat"] == 900_000 and refund["state"] == "partly_paid", refund
    assert wallet_msat(lnbits) == before_msat + 900_000
    assert client.refunded(invoice).json() == closed.json()
    assert wallet_msat(lnbits) == before_msat + 900_000
    rest = {"paymentRequest": wallet_invoice(lnbits, refund["payableSats"])}
    ended = client.post("close", rest).json()["refund"]
    # Within LNbits routing is free, so that its reserve came back.
    assert ended["state"] == "paid" and ended["payableSats"] == 0 and 2_000 <= ended["owedMsat"] < 3_000, ended
    assert wallet_msat(lnbits) == before_msat + ended["paidMsat"]
    check_ledger(client)
    client.close()


def test_what_a_job_owes_comes_back_to_the_wallet_that_paid(lnbits: Lnbits, lnbits_server: Served) -> None:
    created = create(lnbits_server)
    wallet_pays(lnbits, created["evalInvoice"])
    waiting = wait_for(lnbits_server, created["jobId"], "awaiting_work_payment")
    wallet_pays(lnbits, waiting["workInvoice"])
    owed_msat = wait_for(lnbits_server, created["jobId"], "complete")["refund"]["owedMsat"]
    # All of it: within LNbits there is no route, and no reserve for one.
    before_msat, sats = wallet_msat(lnbits), owed_msat // 1_000
    body = {"paymentRequest": wallet_invoice(lnbits, sats)}
    refunded = lnbits_server.client.post(f"/jobs/{created['jobId']}/refund", json=body)
    assert refunded.status_code == 200, refunded.text
    refund = refunded.json()["refund"]
    route = refund.pop("route")
    assert (route["reservedMsat"], route["feeMsat"], route["returnedMsat"]) == (0, 0, 0)
    assert refund == {
        "owedMsat": owed_msat - sats * 1_000,
        "paidMsat": sats * 1_000,
        "payableSats": 0,
        "state": "paid",
    }
    assert wallet_msat(lnbits) == before_msat + sats * 1_000


def test_a_forged_push_moves_nothing(lnbits: Lnbits, wallet: Wallet, lnbits_server: Served) -> None:
    forged, honest = create(lnbits_server), create(lnbits_server)
    claim = {"payment": {"payment_hash": forged["evalInvoice"]["paymentHash"], "amount": 10_000, "status": "success"}}
    push = f"{lnbits.url}/api/v1/ws/{wallet.invoice_key}"
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

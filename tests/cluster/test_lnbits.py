"""A whole job with real Lightning invoices: `satmeter serve` on a real LNbits, paid from its other wallet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.jobs import create, wait_for
from tests.lnbits.fixtures import LNBITS_TIMEOUT_S
from tests.lnbits.server import Lnbits
from tests.served import Served, served

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

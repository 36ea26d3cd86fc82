"""A server over LND: a session and a job with their refunds, the audit, and a client that pays by LND as well."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cluster.commands import audited, satmeter
from tests.helpers.cluster.jobs import create, served_at_last, wait_for
from tests.helpers.cluster.sessions import check_ledger
from tests.helpers.cluster.wallets import opened
from tests.helpers.patience import PROGRAM_S
from tests.helpers.served import Served, patiently, served
from tests.lightning.stand_ins.lnd.node import ROUTE_FEE_MSAT
from tests.lightning.stand_ins.lnd.thread import LndThread, lnd_thread
from tests.lightning.world import Fate

# As much of a client as asks, pays what it is asked for, and asks again.
_PAYING_CLIENT = """
import sys
from bolt402 import Budget, L402Client
url, lnd, macaroon = sys.argv[1:]
client = L402Client.with_lnd_rest(lnd, macaroon, budget=Budget(total_max=50_000))
body = '{"model": "claude-haiku-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Say hello."}]}'
for _ in range(2):
    answer = client.post(url + "/v1/messages", body)
    print(answer.status, len(client.receipts()))
"""


@pytest.fixture(scope="module")
def lnd() -> Iterator[LndThread]:
    with tempfile.TemporaryDirectory(prefix="sm-lnd-") as folder, lnd_thread(Path(folder), local_msat=0) as running:
        (Path(folder) / "satmeter.macaroon").write_bytes(running.server.macaroon())
        yield running


def at_lnd(lnd: LndThread) -> dict[str, str]:
    return {
        "SATMETER_LIGHTNING": "lnd",
        "LND_REST_URL": lnd.server.url,
        "LND_MACAROON_FILE": str(lnd.cert_file.with_name("satmeter.macaroon")),
        "LND_TLS_CERT_FILE": str(lnd.cert_file),
    }


@pytest.fixture(scope="module")
def server(lnd: LndThread) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        with served(Path(directory) / "data", None, (), (), SATMETER_HOSTS="1", **at_lnd(lnd)) as running:
            yield running
        # All books close once the server has ended, the last test's among them.
        audited(Path(directory) / "data", **at_lnd(lnd))


def pays(lnd: LndThread, invoice: dict[str, Any]) -> None:
    assert lnd.do(lambda node: node.receive(invoice["paymentHash"]))


def wants(lnd: LndThread, sats: int) -> str:
    """An invoice of the client's own node."""
    return lnd.do(lambda node: node.foreign_invoice(sats * 1_000)).payment_request


def test_a_session_is_paid_used_and_its_rest_comes_back(lnd: LndThread, server: Served) -> None:
    client, deposit = opened(server)
    pays(lnd, deposit)
    patiently(lambda: client.show()["state"] == "active", "the deposit did not arrive")
    client.ask()
    closed = client.refunded(wants(lnd, 900))
    assert closed.status_code == 200, closed.text
    refund = closed.json()["refund"]
    assert refund["paidMsat"] == 900_000
    # The route was cheaper than its reserve, and the rest of that is owed again.
    assert client.show()["spentMsat"] < 1_000_000 - 900_000 - refund["owedMsat"] + ROUTE_FEE_MSAT
    check_ledger(client)
    client.close()


def test_a_job_is_paid_and_what_it_owes_comes_back(lnd: LndThread, server: Served) -> None:
    created = create(server)
    pays(lnd, created["evalInvoice"])
    pays(lnd, wait_for(server, created["jobId"], "awaiting_work_payment")["workInvoice"])
    owed = wait_for(server, created["jobId"], "complete")["refund"]
    body = {"paymentRequest": wants(lnd, owed["payableSats"])}
    refunded = served_at_last(lambda: server.client.post(f"/jobs/{created['jobId']}/refund", json=body))
    assert refunded.status_code == 200, refunded.text
    assert refunded.json()["refund"]["paidMsat"] == owed["payableSats"] * 1_000


def test_a_refund_without_a_route_is_owed_again_and_goes_to_another_invoice(lnd: LndThread, server: Served) -> None:
    client, deposit = opened(server)
    pays(lnd, deposit)
    patiently(lambda: client.show()["state"] == "active", "the deposit did not arrive")
    lnd.server.fates.append(Fate.FAILED)
    failed = client.refunded(wants(lnd, 900)).json()["refund"]
    assert (failed["state"], failed["owedMsat"], failed["paidMsat"]) == ("owed", 1_000_000, 0)
    assert client.refunded(wants(lnd, 900)).json()["refund"]["paidMsat"] == 900_000
    client.close()


def test_a_client_that_pays_by_lnd_opens_a_session_by_the_challenge(lnd: LndThread, server: Served) -> None:
    if importlib.util.find_spec("bolt402") is None:
        pytest.skip("bolt402 has no wheel for this Python, only for 3.11")
    payer = lnd.another(local_msat=1_000_000_000)
    # bolt402 waits in native code, and lets no other thread of its process run.
    command = [sys.executable, "-c", _PAYING_CLIENT, server.url, payer.url, payer.macaroon().hex()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert done.stdout.split("\n")[:2] == ["200 1", "200 1"], done.stdout + done.stderr
    assert len(payer.node.orders) == 1


def test_the_check_finds_nothing_wrong_and_makes_a_test_invoice(lnd: LndThread) -> None:
    before = lnd.do(lambda node: len(node.invoices))
    checked = satmeter("check", **at_lnd(lnd))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "LND: well" in checked.stderr
    assert lnd.do(lambda node: len(node.invoices)) == before + 1

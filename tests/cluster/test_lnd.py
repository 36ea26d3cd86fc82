"""A server over an LND that others use too, and somebody else's client that pays by an LND of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers.cluster.commands import audited
from tests.helpers.cluster.wallets import opened
from tests.helpers.patience import PROGRAM_S
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import patiently, served
from tests.lightning.stand_ins.lnd.node import Ending, LndNode
from tests.lightning.stand_ins.lnd.thread import LndThread, lnd_thread

# bolt402 waits in native code, and lets no other thread of its process run.
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


def at_lnd(lnd: LndThread) -> dict[str, str]:
    return {
        "LND_REST_URL": lnd.server.url,
        "LND_MACAROON": lnd.server.macaroon().hex(),
        "LND_TLS_CERT_FILE": str(lnd.cert_file),
    }


def traffic(node: LndNode) -> None:
    """Have another program on the node be paid, and pay."""
    for number in range(110):
        node.receive(node.add_invoice({"memo": "coffee", "value": "5", "expiry": "600"}).payment_hash)
        target = node.foreign_invoice(2_000 + number)
        order = {"payment_request": target.payment_request, "timeout_seconds": 60, "fee_limit_msat": "5000"}
        node.begin_payment(order, Ending.PAID)


def test_a_node_that_other_programs_use_serves_and_its_books_close() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory,
        lnd_thread(Path(directory), local_msat=1_000_000_000) as lnd,
    ):
        lnd.do(traffic)
        data_dir, node = Path(directory) / "data", at_lnd(lnd)
        with served(data_dir, None, (), (), SATMETER_HOSTS="1", **node) as server:
            client, deposit = opened(server)
            lnd.do(traffic)
            lnd.do(lambda books: setattr(books, "is_muted", True))
            lnd.do(lambda books: books.receive(deposit["paymentHash"]))
            patiently(lambda: client.show()["state"] == "active", "no sweep found the deposit")
            # Its payer chose the words of an invoice of another program.
            named = {"memo": f"coffee ({client.session_id})", "value": "5", "expiry": "600"}
            lnd.do(lambda books: books.receive(books.add_invoice(named).payment_hash))
            wanted = lnd.do(lambda books: books.foreign_invoice(900_000)).payment_request
            assert client.refunded(wanted).json()["refund"]["paidMsat"] == 900_000
            lnd.do(traffic)
            client.close()
        audited(data_dir, **node)


@pytest.mark.skipif(
    importlib.util.find_spec("bolt402") is None, reason="bolt402 has no wheel for this Python: only for 3.11"
)
def test_bolt402_pays_a_challenge_by_its_own_lnd_and_asks_again_for_nothing() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory,
        lnd_thread(Path(directory), local_msat=0) as lnd,
    ):
        payer, data_dir = lnd.another(local_msat=1_000_000_000), Path(directory) / "data"
        node = at_lnd(lnd)
        with served(data_dir, None, (), (), SATMETER_HOSTS="1", **node) as server:
            command = [sys.executable, "-c", _PAYING_CLIENT, server.url, payer.url, payer.macaroon().hex()]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
            assert done.stdout.splitlines() == ["200 1", "200 1"], done.stdout + done.stderr
        (order,) = payer.node.orders
        assert [made.payment_request for made in lnd.server.node.invoices.values() if made.state == "SETTLED"] == [
            order["payment_request"]
        ]
        audited(data_dir, **node)

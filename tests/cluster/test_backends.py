"""`satmeter serve` on each Lightning node whose one key spends: hosts do without it, and the books close."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cluster.backends import NODES, Node
from tests.helpers.cluster.commands import audited, satmeter
from tests.helpers.cluster.jobs import create, served_at_last, wait_for
from tests.helpers.cluster.leaks import Secrets, in_memory, in_processes
from tests.helpers.cluster.sessions import Client, check_ledger
from tests.helpers.cluster.wallets import opened
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, patiently, served
from tests.lightning.world import Fate


@dataclass(frozen=True)
class Scene:
    """A server, and the node that it runs on."""

    node: Node
    server: Served

    def deposited(self) -> Client:
        """A session that is paid for."""
        client, deposit = opened(self.server)
        self.node.pays(deposit)
        patiently(lambda: client.show()["state"] == "active", "the deposit did not arrive")
        return client

    def audited(self) -> dict[str, Any]:
        return audited(self.server.data_dir, **self.node.settings)


@pytest.fixture(scope="module", params=NODES)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with (
        NODES[request.param]() as node,
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory,
        served(Path(directory) / "data", None, (), SATMETER_HOSTS="1", **node.settings) as server,
    ):
        yield Scene(node, server)


def test_the_check_proves_the_node_and_the_server_is_ready(scene: Scene) -> None:
    done = satmeter("check", **scene.node.settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A test invoice over 1 sat was made and found again." in done.stdout, done.stdout
    assert scene.node.secret not in done.stdout + done.stderr
    ready = scene.server.client.get("/readyz").json()
    assert ready["status"] == "ready" and ready["checks"]["lightning"] == "ok"


def test_a_session_is_paid_used_and_paid_back_once(scene: Scene) -> None:
    client = scene.deposited()
    assert client.ask()["result"]
    invoice = scene.node.wants(900)
    closed = served_at_last(lambda: client.refunded(invoice))
    assert closed.status_code == 200, closed.text
    assert closed.json()["refund"]["paidMsat"] == 900_000
    assert client.refunded(invoice).json() == closed.json()
    check_ledger(client)
    client.close()


def test_a_job_is_done_and_what_it_owes_is_paid_back(scene: Scene) -> None:
    created = create(scene.server)
    scene.node.pays(created["evalInvoice"])
    waiting = wait_for(scene.server, created["jobId"], "awaiting_work_payment")
    # What is paid too much is owed. A node takes up to twice the amount (BOLT 4).
    scene.node.pays(waiting["workInvoice"], more_sats=waiting["workInvoice"]["amountSats"])
    refund = wait_for(scene.server, created["jobId"], "complete")["refund"]
    assert refund["payableSats"] > 0, refund
    body = {"paymentRequest": scene.node.wants(refund["payableSats"])}
    path = f"/jobs/{created['jobId']}/refund"
    paid = served_at_last(lambda: scene.server.client.post(path, json=body))
    assert paid.status_code == 200, paid.text
    assert paid.json()["refund"]["paidMsat"] == refund["payableSats"] * 1_000


def test_two_sessions_can_not_both_be_paid_by_one_invoice(scene: Scene) -> None:
    first, second = scene.deposited(), scene.deposited()
    invoice = scene.node.wants(500)
    paid = served_at_last(lambda: first.refunded(invoice))
    assert paid.json()["refund"]["paidMsat"] == 500_000
    # The store knows whose payment it is, so that the second is not told that it was paid.
    second.post("close", {"paymentRequest": invoice})
    assert second.show()["refund"]["paidMsat"] == 0
    first.close()
    second.close()


def test_a_refund_whose_answer_was_lost_is_found_paid_and_made_once(scene: Scene) -> None:
    client = scene.deposited()
    scene.node.next_payment(Fate.ANSWER_LOST)
    assert paid_back(scene, client, 700) == 700_000


def paid_back(scene: Scene, client: Client, sats: int) -> int:
    """Close the session with a refund, and return what it paid."""
    invoice = scene.node.wants(sats)
    paid = served_at_last(lambda: client.refunded(invoice))
    assert paid.status_code == 200, paid.text
    client.close()
    paid_msat: int = paid.json()["refund"]["paidMsat"]
    return paid_msat


def test_what_a_killed_treasury_did_for_the_hosts_goes_on(scene: Scene) -> None:
    client, created = scene.deposited(), create(scene.server)
    scene.server.kill("ray::TreasuryActor")
    # A payment that no process sees, and an invoice that waits for the next treasury.
    scene.node.pays(created["evalInvoice"])
    another, deposit = opened(scene.server)
    wait_for(scene.server, created["jobId"], "awaiting_work_payment")
    scene.node.pays(deposit)
    patiently(lambda: another.show()["state"] == "active", "the deposit did not arrive")
    for leaving in (client, another):
        assert paid_back(scene, leaving, 600) == 600_000


@pytest.mark.skipif(sys.platform != "linux", reason="only there processes can be looked into")
def test_no_host_and_no_front_holds_the_key_that_spends(scene: Scene) -> None:
    key = Secrets.of({"the key that spends": scene.node.secret})
    others = [pid for name in ("ray::HostActor", "ray::OracleActor") for pid in scene.server.descendants(name)]
    assert len(others) >= 2
    assert in_memory(key, others) | in_processes(key, [*others, *scene.server.descendants("ray::")]) == set()
    assert in_memory(key, scene.server.descendants("ray::TreasuryActor")), "the search finds nothing"


def test_the_books_close_although_others_have_invoices_made_at_the_node(scene: Scene) -> None:
    client = scene.deposited()
    before = scene.audited()
    assert before["node"]["paid_out"] >= 3_300_000 and before["node"]["foreign"] == 0, before
    # A session of ours, one of another store, and ids as other servers and former versions wrote them.
    for name in (client.session_id, "ses_ffffffffffffffffffffffffffffffff", f"pool_{'0a' * 24}", "pool_1"):
        scene.node.strangers(name)
    node = scene.audited()["node"]
    # LND tells which invoices are ours, so that no other is looked at.
    foreign = 0 if "LND_REST_URL" in scene.node.settings else 28_000
    assert node == {**before["node"], "foreign": foreign, "wallet": before["node"]["wallet"] + 28_000}
    assert client.show()["depositedMsat"] == 1_000_000
    client.close()

"""Refunds by themselves on a real server: to an address on loopback, through the deaths of hosts and of the server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_serve import kill_hosts
from tests.helpers.cluster.addresses import AddressServer, address_server
from tests.helpers.cluster.commands import audited
from tests.helpers.cluster.jobs import pay
from tests.helpers.cluster.sessions import Client
from tests.helpers.served import Served, patiently, served


@pytest.fixture
def address() -> Iterator[AddressServer]:
    with address_server() as server:
        yield server


@contextmanager
def opened(server: Served, address: AddressServer) -> Iterator[Client]:
    """A session with a destination and a settled deposit."""
    made = server.client.post("/sessions", json={"amountSats": 1_000, "refundTo": address.address}).json()
    client = Client(server, made["sessionId"], made["macaroon"])
    pay(server, made["depositInvoice"])
    patiently(lambda: client.show()["state"] == "active", "the deposit did not arrive")
    with closing(client):
        yield client


def paid_back(client: Client) -> dict[str, Any]:
    """The session's refund once nothing more can be paid."""
    patiently(lambda: client.show()["refund"]["state"] == "paid", "the rest was not paid back")
    refund: dict[str, Any] = client.show()["refund"]
    assert refund["owedMsat"] == 2_000 and refund["paidMsat"] == 998_000
    return refund


def check_books(data_dir: Path) -> None:
    """The audit finds each payment in the wallet's list once, and no other."""
    found = audited(data_dir)
    assert found["sessions"]["refunded"] == found["node"]["paid_out"] == 998_000, found


def test_a_closed_session_is_paid_back_although_its_host_dies_while_it_asks(
    data_dir: Path, address: AddressServer
) -> None:
    with (
        served(data_dir, SATMETER_WEBHOOK_ALLOW="127.0.0.1", SATMETER_HOSTS="1") as server,
        opened(server, address) as client,
    ):
        address.hold()
        assert client.post("close", {}).status_code == 200
        address.wait_for_a_question()
        kill_hosts(server)
        assert client.show()["refund"]["destination"] == address.address
        address.let_go()
        paid_back(client)
    check_books(data_dir)


def test_a_server_that_is_killed_pays_back_after_its_next_start(data_dir: Path, address: AddressServer) -> None:
    address.hold()
    with served(data_dir, SATMETER_WEBHOOK_ALLOW="127.0.0.1", SATMETER_HOSTS="1") as server:
        with opened(server, address) as client:
            assert client.post("close", {}).status_code == 200
            address.wait_for_a_question()
            credential = client.http.headers["Authorization"]
        server.stop(signal.SIGKILL)
        # Of Ray two processes may stay for a minute after SIGKILL; they hold nothing of ours.
        patiently(lambda: not any("valkey" in command for command in server.left_over()), "the store still runs")
    address.let_go()
    with (
        served(data_dir, SATMETER_WEBHOOK_ALLOW="127.0.0.1", SATMETER_HOSTS="1") as server,
        closing(Client(server, client.session_id, credential.removeprefix("Bearer "))) as client,
    ):
        paid_back(client)
    check_books(data_dir)

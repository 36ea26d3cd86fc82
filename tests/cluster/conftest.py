from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cluster.wallets import at_wallet
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import MessagesApi, Served, served
from tests.lnbits.server import Lnbits, Wallet

HOSTS = {"shared": "2", "dedicated": "1"}
"""Hosts of a server, by its placement. Where each actor has a process of its own, a second host shows nothing more."""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A short directory: the store's socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory:
        yield Path(directory) / "data"


@pytest.fixture(scope="session")
def model() -> Iterator[MessagesApi]:
    api = MessagesApi()
    yield api
    api.close()


@pytest.fixture(scope="session", params=["shared", "dedicated"])
def server(model: MessagesApi, request: pytest.FixtureRequest) -> Iterator[Served]:
    """One server in each placement for all tests that need no other: each leaves it in working order."""
    with (
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory,
        served(
            Path(directory) / "data",
            SATMETER_HOSTS=HOSTS[request.param],
            SATMETER_PLACEMENT=request.param,
            ANTHROPIC_API_KEY="test",
            ANTHROPIC_BASE_URL=model.url,
        ) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def wallet(lnbits: Lnbits) -> Wallet:
    """The server's wallet, in which nobody else has payments: an audit would take them for its own."""
    return lnbits.new_wallet()


@pytest.fixture(scope="session")
def lnbits_server(lnbits: Lnbits, wallet: Wallet) -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory,
        served(
            Path(directory) / "data",
            None,
            (),
            SATMETER_HOSTS="1",
            **at_wallet(lnbits, wallet),
        ) as server,
    ):
        yield server

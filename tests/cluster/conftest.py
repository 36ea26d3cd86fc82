from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lnbits.fixtures import lnbits
from tests.served import MessagesApi, Served, served

__all__ = ["lnbits"]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A short directory: the store's socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        yield Path(directory) / "data"


@pytest.fixture(scope="module")
def model() -> Iterator[MessagesApi]:
    api = MessagesApi()
    yield api
    api.close()


@pytest.fixture(scope="module", params=["shared", "dedicated"])
def server(model: MessagesApi, request: pytest.FixtureRequest) -> Iterator[Served]:
    """One server for all tests of a module, in both placements: each test leaves it in working order."""
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as directory,
        served(
            Path(directory) / "data",
            SATMETER_HOSTS="2",
            SATMETER_PLACEMENT=request.param,
            ANTHROPIC_API_KEY="test",
            ANTHROPIC_BASE_URL=model.url,
        ) as server,
    ):
        yield server

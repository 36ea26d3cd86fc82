"""Fixtures for tests of clients: a server with stubs, and an environment without a user's own settings."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, served


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    """One server for all of them."""
    with (
        tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory,
        served(Path(directory) / "data", SATMETER_HOSTS="1") as running,
    ):
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a client's process: its state lies in the test's own folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SATMETER_")}
    return {**kept, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "100"}


@pytest.fixture(scope="session")
def command() -> str:
    """The installed `satmeter`."""
    return str(Path(sys.executable).with_name("satmeter"))

"""The fixture of a real relay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lightning.stand_ins.nwc.relay import RelayProcess, running_relay


@pytest.fixture(scope="session")
def nostr_relay() -> Iterator[RelayProcess]:
    """A relay for the whole session, which no test may kill. Each wallet at it has keys of its own."""
    with running_relay() as relay:
        yield relay

"""The fixture of a real LNbits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lnbits.install import InstallError
from tests.lnbits.server import Lnbits, running_lnbits


@pytest.fixture(scope="session")
def lnbits() -> Iterator[Lnbits]:
    """A real LNbits for the whole session."""
    try:
        with running_lnbits() as server:
            yield server
    except InstallError as error:
        pytest.fail(str(error), pytrace=False)

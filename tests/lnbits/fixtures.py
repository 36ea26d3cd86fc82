"""The fixture of a real LNbits. A conftest.py imports it for the tests beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.lnbits.install import InstallError
from tests.lnbits.server import Lnbits, running_lnbits

LNBITS_TIMEOUT_S: Final = 600
"""Time for a test that may be the one for which LNbits is installed."""


@pytest.fixture(scope="session")
def lnbits() -> Iterator[Lnbits]:
    """A real LNbits for the whole session. Mark what uses it with `pytest.mark.timeout(LNBITS_TIMEOUT_S)`."""
    try:
        with running_lnbits() as server:
            yield server
    except InstallError as error:
        pytest.fail(str(error), pytrace=False)

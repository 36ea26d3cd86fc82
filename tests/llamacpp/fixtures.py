"""The fixture of a real llama.cpp server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.llamacpp.install import InstallError
from tests.llamacpp.server import LlamaCpp, running_llama


@pytest.fixture(scope="session")
def llama() -> Iterator[LlamaCpp]:
    """A real llama.cpp server for the whole session."""
    try:
        with running_llama() as server:
            yield server
    except InstallError as error:
        pytest.skip(str(error))

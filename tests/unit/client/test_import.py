"""The client stands alone: who imports it gets no server with it."""

from __future__ import annotations

import subprocess
import sys

import satmeter.client


def test_importing_the_client_loads_nothing_of_a_server() -> None:
    code = (
        "import sys, satmeter.client; "
        "servers = ('ray', 'starlette', 'redis', 'anthropic', 'uvicorn', 'pydantic', 'mcp'); "
        "print([name for name in servers if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_all_that_is_said_to_be_public_is_there() -> None:
    for name in satmeter.client.__all__:
        assert getattr(satmeter.client, name).__doc__


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(satmeter.client.Satmeter) == public(satmeter.client.AsyncSatmeter)

"""The stand-in on a port of loopback: within a test's own loop, or as a process that other programs reach."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp

from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S
from tests.lightning.stand_ins.phoenixd.app import Phoenixd

_MODULE = "tests.lightning.stand_ins.phoenixd"


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class PhoenixdServer:
    """A phoenixd on a port of its own, which it has again after it was away."""

    def __init__(self, node: Phoenixd) -> None:
        self.node = node
        self._serving: tuple[_Server, asyncio.Task[None]] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve, and return once it answers."""
        server = server_of(self.node.app)
        listener = socket.create_server(("127.0.0.1", self.port))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        self._serving = server, task
        async with asyncio.timeout(PATIENCE_S):
            while not server.started:
                await asyncio.sleep(0)

    async def stop(self) -> None:
        """End it, in the middle of whatever it does."""
        if self._serving is None:
            return
        (server, task), self._serving = self._serving, None
        server.should_exit = True
        await task


def server_of(app: ASGIApp) -> _Server:
    """Return a server that ends at once."""
    return _Server(
        uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=0
        )
    )


@dataclass(frozen=True)
class Running:
    """A stand-in in a process of its own. `network` is the network around it."""

    url: str
    password: str
    network: httpx.Client

    def pay(self, payment_hash: str, amount_msat: int | None = None) -> bool:
        """Pay an invoice of the node's. False where the node does not take it."""
        fields = {"paymentHash": payment_hash} | ({} if amount_msat is None else {"amountMsat": str(amount_msat)})
        taken: bool = self.network.post("/network/pay", data=fields).raise_for_status().json()["taken"]
        return taken

    def foreign_invoice(self, amount_sats: int) -> str:
        """Return an invoice of another node."""
        made = self.network.post("/network/invoice", data={"amountSat": str(amount_sats)})
        return str(made.raise_for_status().json()["paymentRequest"])

    def next_payment(self, fate: str) -> None:
        """Decide what becomes of the next payment: a name of `Fate`."""
        self.network.post("/network/fate", data={"fate": fate}).raise_for_status()


@contextlib.contextmanager
def running_phoenixd(*, balance_sats: int = 0, inbound_sats: int = 0) -> Iterator[Running]:
    """Start a stand-in in a process, and end it."""
    password = secrets.token_hex(16)
    command = [sys.executable, "-m", _MODULE, "--password", password]
    command += ["--balance", str(balance_sats), "--inbound", str(inbound_sats)]
    process = subprocess.Popen(
        ending_with_us(command), stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4]
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the stand-in did not start"
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as network:
            yield Running(url, password, network)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()

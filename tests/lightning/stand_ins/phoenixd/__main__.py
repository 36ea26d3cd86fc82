"""A stand-in for phoenixd on a port of loopback, until it is ended. Its first line tells the address."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import time

from tests.lightning.stand_ins.phoenixd.app import Phoenixd
from tests.lightning.stand_ins.phoenixd.books import Books
from tests.lightning.stand_ins.phoenixd.faults import Faults
from tests.lightning.stand_ins.phoenixd.network import with_network
from tests.lightning.stand_ins.phoenixd.server import server_of


async def _serve() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--password", required=True)
    parser.add_argument("--limited-password", default="limited")
    parser.add_argument("--balance", type=int, default=0, help="sats in the channel")
    parser.add_argument("--inbound", type=int, default=0, help="sats that the channel can still receive")
    options = parser.parse_args()
    books = Books(lambda: time.time_ns() // 1_000_000, balance_sats=options.balance, inbound_sats=options.inbound)
    node = Phoenixd(books, Faults(), password=options.password, limited_password=options.limited_password)
    listener = socket.create_server(("127.0.0.1", options.port))
    server = server_of(with_network(node))

    def end() -> None:
        server.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)  # noqa: T201 - for the process that waits for it
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(_serve())

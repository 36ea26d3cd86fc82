"""The stand-in for LND in a thread of its own, for tests that wait in their own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.helpers.http.certificates import contexts
from tests.helpers.patience import PATIENCE_S
from tests.lightning.stand_ins.lnd.node import LndNode
from tests.lightning.stand_ins.lnd.server import LndServer

T = TypeVar("T")


class LndThread:
    """A running server, and the way to its books."""

    def __init__(self, server: LndServer, loop: asyncio.AbstractEventLoop, cert_file: Path) -> None:
        self.server = server
        self.cert_file = cert_file
        self._loop = loop
        self._others: list[LndServer] = []

    def do(self, action: Callable[[LndNode], T]) -> T:
        """Do something with the books, in the thread that they belong to."""

        async def act() -> T:
            return action(self.server.node)

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(PATIENCE_S)

    def another(self, *, local_msat: int) -> LndServer:
        """Run one more node, without TLS; each of both pays what the other asks for."""
        server = LndServer(LndNode(local_msat))
        asyncio.run_coroutine_threadsafe(server.start(), self._loop).result(PATIENCE_S)
        server.node.peers.append(self.server.node)
        self.server.node.peers.append(server.node)
        self._others.append(server)
        return server

    def close(self) -> None:
        """End all servers."""
        for server in (*self._others, self.server):
            asyncio.run_coroutine_threadsafe(server.close(), self._loop).result(PATIENCE_S)


@contextlib.contextmanager
def lnd_thread(folder: Path, *, local_msat: int, is_tls: bool = True) -> Iterator[LndThread]:
    """Run a stand-in; its certificate is written to the folder."""
    tls, _ = contexts(folder)
    loop = asyncio.new_event_loop()
    server = LndServer(LndNode(local_msat), tls=tls if is_tls else None)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(PATIENCE_S)
        running = LndThread(server, loop, folder / "cert.pem")
        try:
            yield running
        finally:
            running.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        loop.close()

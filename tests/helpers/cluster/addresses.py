"""A server of one Lightning address in a thread of its own, which a test can hold up while servers run beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.helpers.lnurl_servers import LnurlServer
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import patiently
from tests.helpers.webhooks import serving


class AddressServer:
    """Server of an address. While `hold` lasts, questions come in and get no answer."""

    def __init__(self) -> None:
        self.played = LnurlServer()
        self._open = threading.Event()
        self._open.set()
        self._held = 0
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    @property
    def address(self) -> str:
        """The address, whose host is this machine."""
        return self.played.address

    def hold(self) -> None:
        """Answer no question from now on."""
        self._held = 0
        self._open.clear()

    def wait_for_a_question(self) -> None:
        """Return once a question has come that is held up."""
        patiently(lambda: self._held > 0, "the address was not asked")

    def let_go(self) -> None:
        """Answer all questions."""
        self._open.set()

    def close(self) -> None:
        """End the server."""
        self.let_go()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)

    async def _run(self) -> None:
        async with serving(self._serve) as port:
            self._loop = asyncio.get_running_loop()
            self.played.port = port
            self._ready.set()
            await self._end.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open.is_set():
            self._held += 1
            await asyncio.to_thread(self._open.wait)
        await self.played.serve(reader, writer)


@contextmanager
def address_server() -> Iterator[AddressServer]:
    """A server of an address, ended at the end."""
    server = AddressServer()
    try:
        yield server
    finally:
        server.close()

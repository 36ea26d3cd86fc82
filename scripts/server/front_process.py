"""Front as a child process: started with its orders, restarted when it dies, and ended in order."""

from __future__ import annotations

import asyncio
import pickle
import sys
from typing import Final

import structlog

from ..processes import ending_of
from .front import Orders

_ENDS_WITHIN_S: Final = 7.0
_RESTART_PAUSE_S: Final = 0.2
_log = structlog.get_logger(__name__)


class FrontProcess:
    """A front as a child process that is started again when it dies."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False
        self.ends = 0
        """The number of times that it has ended by itself."""

    async def keep_running(self) -> None:
        """Start the front, and restart it whenever it ends, until `end` or cancellation."""
        while not self._ending:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "satmeter.scripts.server.front",
                stdin=asyncio.subprocess.PIPE,
                pass_fds=[self._orders.socket_fd],
                start_new_session=True,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(pickle.dumps(self._orders))
            await self._process.wait()
            if not self._ending:
                self.ends += 1
                _log.error("front_ended", **ending_of(self._process.returncode), hint="it is started again")
                await asyncio.sleep(_RESTART_PAUSE_S)

    async def end(self) -> None:
        """Ask the front to finish its requests and end; kill it if it has not ended within 7 s."""
        self._ending = True
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_ENDS_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

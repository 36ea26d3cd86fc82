"""A real relay: that of nostr-sdk, whose events, signatures and subscriptions are its own work. A process of its own.

Its runtime has a thread that nothing ends, and a test may want to kill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S


class RelayProcess:
    """A relay at a port of 127.0.0.1, which may be killed and started again there. It forgets its events then."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            ending_with_us([sys.executable, "-m", __name__, str(self._port)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[4],
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, "the relay did not start"
        self._port = int(port)

    def kill(self) -> None:
        """SIGKILL: its connections break."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def running_relay() -> Iterator[RelayProcess]:
    relay = RelayProcess()
    try:
        yield relay
    finally:
        relay.kill()


async def _serve(port: int) -> None:
    import nostr_sdk

    # By default 60 events a minute are let through.
    limit = nostr_sdk.RateLimit(max_reqs=1_000, notes_per_minute=1_000_000)
    builder = nostr_sdk.LocalRelayBuilder().addr("127.0.0.1").rate_limit(limit)
    relay = (builder.port(port) if port else builder).build()
    await relay.run()
    sys.stdout.write(f"{str(await relay.url()).rstrip('/').rpartition(':')[2]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    asyncio.run(_serve(int(sys.argv[1])))

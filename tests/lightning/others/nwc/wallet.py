"""A wallet whose side of Nostr Wallet Connect is a library of others: the stand-in's books, and none of its events."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers import installed
from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S
from tests.lightning.stand_ins.nwc.wallet import NwcWallet

_HERE = Path(__file__).parent
LIBRARIES = ("alby", "applesauce")


def program(folder: Path) -> Path:
    """A copy of the program in this folder, beside its libraries. Raises `installed.NotInstalledError`."""
    (folder / "node_modules").symlink_to(installed.node_modules(_HERE, "nwc"))
    return Path(shutil.copy(_HERE / "wallet.mjs", folder))


@dataclass
class OthersWallet(NwcWallet):
    """Answers the library's questions out of the books, and has it send notifications."""

    async def run(self, script: Path, library: str) -> None:
        """Start the program; return once it hears requests."""
        words = ending_with_us(["node", str(script), library, *self.relays])
        self._process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        async with asyncio.timeout(PATIENCE_S):
            self.connection: str = json.loads(await self._from.readline())["url"]
        self._reading = asyncio.create_task(self._read())

    async def end(self) -> None:
        """End the program by the end of its input."""
        self._to.close()
        async with asyncio.timeout(PATIENCE_S):
            await self._process.wait()
            await self._reading

    async def push(self, kind: str, notification: dict[str, Any]) -> None:
        self._say({"notify": kind, "notification": notification})

    async def _read(self) -> None:
        async for line in self._from:
            told = json.loads(line)
            async for answer in self._answers(told["method"], told["params"]):
                self._say({"answer": told["ask"], **answer})

    def _say(self, line: dict[str, Any]) -> None:
        self._to.write(f"{json.dumps(line)}\n".encode())


@asynccontextmanager
async def wallet_by(library: str, script: Path, relay: str) -> AsyncIterator[OthersWallet]:
    wallet = OthersWallet((relay,))
    await wallet.run(script, library)
    try:
        yield wallet
    finally:
        await wallet.end()

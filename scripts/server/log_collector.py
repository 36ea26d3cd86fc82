"""Collector of the log entries of fronts and actor processes, which prints them among the server's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

_LINE_BYTES_MAX: Final = 262_144


class LogCollector:
    """A unix socket on which other processes send lines (see `SocketHandler`). `write` prints one."""

    def __init__(self, path: Path, write: Callable[[bytes], None]) -> None:
        self._path = path
        self._write = write
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._read, self._path, limit=_LINE_BYTES_MAX)

    def name(self, other: Path) -> None:
        """Give the socket another name, by which processes find it that the server has not started."""
        other.symlink_to(self._path.name)

    async def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for line in reader:
                self._write(line.rstrip(b"\n"))
        except (OSError, ValueError):
            pass  # The process ended in the middle of a line, or sent one that is too long.
        finally:
            writer.close()

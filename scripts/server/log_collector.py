"""Collector of the log entries of fronts and actor processes, which prints them among the server's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_LINE_BYTES_MAX: Final = 262_144
_READ_BYTES: Final = 65_536


class LogCollector:
    """A unix socket on which other processes send lines (see `SocketHandler`). `write` prints some."""

    def __init__(self, path: Path, write: Callable[[Sequence[bytes]], None]) -> None:
        self._path = path
        self._write = write
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._read, self._path)

    def name(self, other: Path) -> None:
        """Give the socket another name, by which processes find it that the server has not started."""
        other.symlink_to(self._path.name)

    async def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        try:
            # Lines that have come together are printed together, which costs less than one by one.
            while len(rest) <= _LINE_BYTES_MAX and (data := await reader.read(_READ_BYTES)):
                *lines, rest = (rest + data).split(b"\n")
                if lines:
                    self._write(lines)
        except OSError:
            pass  # The process was killed.
        finally:
            if rest:
                self._write([rest])
            writer.close()

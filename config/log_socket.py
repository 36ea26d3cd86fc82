"""Log socket: the actor processes of a server send their log lines to the process that prints.

Ray would print them late, with its own prefix, and leave out lines that look like repetitions.
"""

from __future__ import annotations

import logging
import socket
from typing import Final

# Names the socket to the actor processes, which inherit it through Ray. Processes on other machines have no socket.
LOG_SOCKET: Final = "SATMETER_LOG_SOCKET"
_LINE_BYTES_MAX: Final = 65_536


class SocketHandler(logging.Handler):
    """Handler that sends each entry as one line without waiting: dropped entries are counted, and reported later."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send the entry, or drop it."""
        try:
            line = self.format(record).encode(errors="replace")[:_LINE_BYTES_MAX] + b"\n"
            if self._dropped:
                line = b'{"event": "log_entries_dropped", "level": "warning", "count": %d}\n' % self._dropped + line
            self._send(line)
            self._dropped = 0
        except OSError:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def _send(self, line: bytes) -> None:
        """Send a line. Raises `OSError` when no part of it was sent."""
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX)
            try:
                fresh.connect(self._path)
            except OSError:
                fresh.close()
                raise
            fresh.setblocking(False)
            self._socket, self._unsent = fresh, b""
        try:
            if self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            if self._unsent:
                raise BlockingIOError
            # The rest of a partly sent line must be sent before the next line.
            self._unsent = line[self._socket.send(line) :]
        except BlockingIOError:
            raise
        except OSError:
            self.close_socket()
            raise

    def close_socket(self) -> None:
        """Close the connection; the next entry opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Close the handler and its connection."""
        self.close_socket()
        super().close()

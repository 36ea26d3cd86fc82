"""A server's log lines in one stream: its actor processes send theirs to the process that prints.

Ray would print them with a prefix of its own, late, and leave out what it takes for repetitions.
"""

from __future__ import annotations

import logging
import socket
from typing import Final

# Names the socket to the actor processes, which inherit it through Ray. Those of other machines have none.
LOG_SOCKET: Final = "SATMETER_LOG_SOCKET"
_LINE_BYTES_MAX: Final = 65_536


class SocketHandler(logging.Handler):
    """Sends each entry as one line, and never waits: what does not fit is counted, and the count is sent later."""

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
        """Raises `OSError` when nothing of the line was taken."""
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
            # A line that was taken in part must be ended before the next one begins.
            self._unsent = line[self._socket.send(line) :]
        except BlockingIOError:
            raise
        except OSError:
            self.close_socket()
            raise

    def close_socket(self) -> None:
        """Let go of the connection; the next entry makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """End it."""
        self.close_socket()
        super().close()

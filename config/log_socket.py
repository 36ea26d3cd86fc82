"""Log socket: the fronts and actor processes of a server send their log lines to the process that prints.

Ray would print them late, with its own prefix, and leave out lines that look like repetitions. In a cluster that runs
by itself it would keep them in files of its own.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TextIO

from .private_dir import private_dirs

LOG_SOCKET: Final = "SATMETER_LOG_SOCKET"
"""Names the socket to processes that the server has started, by itself or through a Ray of its own."""
_LINE_BYTES_MAX: Final = 65_536
_NODE_CHARS: Final = 16


def log_socket_in(directory: Path, node_id: str) -> Path:
    """Return the path of the log socket of a Ray node's server, in the server's private directory."""
    return directory / f"log-{node_id[:_NODE_CHARS]}.sock"


def log_sockets(node_id: str) -> Iterable[Path]:
    """Yield the log sockets of this Ray node's servers. Actors outlive a server, and find the next one so."""
    for directory in private_dirs():
        path = log_socket_in(directory, node_id)
        if path.exists():
            yield path


class SocketHandler(logging.Handler):
    """Handler that sends each entry as one line without waiting: dropped entries are counted, and reported later.

    `find` yields the sockets to try. Where there is none, entries go to `otherwise`, or are dropped.
    """

    def __init__(self, find: Callable[[], Iterable[Path]], otherwise: TextIO | None = None) -> None:
        super().__init__()
        self._find = find
        self._otherwise = otherwise
        self._socket: socket.socket | None = None
        self._unsent = b""
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send the entry, or drop it."""
        try:
            text = self.format(record)
            if self._otherwise is not None and self._socket is None and not self._connect():
                self._otherwise.write(f"{text}\n")
                self._otherwise.flush()
                return
            line = text.encode(errors="replace")[:_LINE_BYTES_MAX] + b"\n"
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
        if self._socket is None and not self._connect():
            raise ConnectionError
        assert self._socket is not None
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

    def _connect(self) -> bool:
        for path in self._find():
            fresh = socket.socket(socket.AF_UNIX)
            try:
                fresh.connect(str(path))
            except OSError:
                fresh.close()
                continue
            fresh.setblocking(False)
            self._socket, self._unsent = fresh, b""
            return True
        return False

    def close_socket(self) -> None:
        """Close the connection; the next entry opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Close the handler and its connection."""
        self.close_socket()
        super().close()

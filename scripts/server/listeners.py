"""Listening sockets of fronts, opened by their supervisor, so that waiting connections outlive a dead front."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import time
from typing import Final

from .start_messages import StartError

_BIND_WITHIN_S: Final = 3.0
_RETRY_PAUSE_S: Final = 0.2
_BACKLOG: Final = 2_048
# What the system keeps of an answer for a client that does not read it; left alone it keeps up to 4 MiB for each.
_UNREAD_BYTES: Final = 262_144


async def open_listeners(host: str, port: int, workers: int) -> list[socket.socket]:
    """Listen for `workers` fronts, with a socket for each if the system can share a port. Raises `StartError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    shared = sys.platform == "linux" and workers > 1
    if shared:
        # Only the own fronts may share the port. Without this check, another server or the
        # fronts of a dead one could share it, too, and get a part of the connections.
        with socket.socket(family) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await _bind(alone, host, port)
            port = alone.getsockname()[1]
    listeners: list[socket.socket] = []
    for _ in range(workers if shared else 1):
        listener = socket.socket(family)
        listeners.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted connections have it from here.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD_BYTES)
        await _bind(listener, host, port)
        listener.listen(_BACKLOG)
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
    return listeners


async def _bind(listener: socket.socket, host: str, port: int) -> None:
    """Bind the socket; retry for 3 s, as the fronts of a server that was just killed may still hold the port."""
    deadline_s = time.monotonic() + _BIND_WITHIN_S
    while True:
        try:
            return listener.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline_s:
                listener.close()
                raise StartError(f"Can't listen on {host}:{port}: {error.strerror}. {_remedy(error)}") from None
        await asyncio.sleep(_RETRY_PAUSE_S)


def _remedy(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "Choose a --host that is an address of this machine."
    return "Choose another --port."

"""Bytes of answers that a client has taken."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

# The bytes that a connection's client has acknowledged stand at this place of Linux's `struct tcp_info`.
_ACKED: Final = struct.Struct("120xQ")


def bytes_taken(transport: asyncio.Transport, waiting: int) -> int:
    """Return a number that rises by the bytes that a client takes. `waiting`: those that the system has not had yet."""
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size)
        return int(_ACKED.unpack(info)[0])
    except (AttributeError, OSError, struct.error):
        # Not Linux, or not TCP.
        return -waiting

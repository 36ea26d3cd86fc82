"""Ends of answers to clients of HTTP/1.0, which know no chunks."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def end_at_close(cycle: RequestResponseCycle) -> None:
    """Have a body of unknown length end when the connection closes."""
    send, endless = cycle.send, False

    async def send_until_closed(message: ASGISendEvent) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            endless = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            cycle.chunked_encoding = False if endless else None
            if endless:
                cycle.transport = _Resetting(cycle)  # type: ignore[assignment]
        elif endless and message["type"] == "http.response.body":
            # Uvicorn holds a body without chunks to its length; each part has its own.
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    cycle.send = send_until_closed  # type: ignore[method-assign]


class _Resetting:
    """Transport of a body that ends with its connection. A body that breaks off ends with a reset of the connection.

    A proxy of HTTP/1.0 would take an orderly end for the end of a whole answer, and its client would read an error as
    the success that the head has announced.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._transport = cycle.transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close the connection, with a reset if the answer is not complete."""
        if not self._cycle.response_complete:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.close()

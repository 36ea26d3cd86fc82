"""Writes of an answer: its head and the first of its body in one packet."""

from __future__ import annotations

import asyncio


class JoinedWrites:
    """Transport that sends an answer's head with the first of its body, if that follows in the same turn of the loop.

    Uvicorn writes them one by one: to send a packet and to wake the client cost as much as all else in an answer.
    """

    __slots__ = ("_begun", "_head", "_loop", "_sending", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._begun = False
        self._head = b""
        self._sending: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """Send bytes: the first ones at the end of this turn, or with the next ones."""
        if self._sending is not None:
            self._send(data)
        elif self._begun:
            self._transport.write(data)
        else:
            self._begun, self._head = True, data
            self._sending = self._loop.call_soon(self._send)

    def is_closing(self) -> bool:
        """Return whether the connection ends."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection, after what was written."""
        if self._sending is not None:
            self._send()
        self._transport.close()

    def _send(self, more: bytes = b"") -> None:
        assert self._sending is not None
        self._sending.cancel()
        self._sending = None
        if not self._transport.is_closing():
            self._transport.write(self._head + more)

"""Writes of an answer: its head and the first of its body in one packet."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast


class Ending(Protocol):
    """A protocol that ends its connection by itself, as the client may still be sending."""

    def end_answer(self) -> None:
        """End the connection whose last answer was written, or cut short."""
        ...


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

    def get_extra_info(self, name: str) -> Any:
        """Return what the transport knows of the connection."""
        return self._transport.get_extra_info(name)

    def close(self) -> None:
        """Have the protocol end the connection, after what was written."""
        if self._sending is not None:
            self._send()
        if not self._transport.is_closing():
            # A reference to the protocol would keep both until the collector looks.
            cast(Ending, self._transport.get_protocol()).end_answer()

    def _send(self, more: bytes = b"") -> None:
        assert self._sending is not None
        self._sending.cancel()
        self._sending = None
        if not self._transport.is_closing():
            self._transport.write(self._head + more)

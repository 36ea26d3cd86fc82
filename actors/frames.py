"""Frames on a stream: messages, each with its length before it."""

from __future__ import annotations

import asyncio
from typing import Final

_LENGTH_BYTES: Final = 4


def write_frame(writer: asyncio.StreamWriter, payload: bytes) -> None:
    """Send a frame, without waiting for it."""
    writer.write(len(payload).to_bytes(_LENGTH_BYTES, "big") + payload)


async def read_frame(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    """Return the next frame. Raises `EOFError` at the end, or for a frame that is too long, and `OSError`."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > most_bytes:
        raise EOFError("a frame of impossible length")
    return await reader.readexactly(length)
